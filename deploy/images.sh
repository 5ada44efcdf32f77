#!/usr/bin/env bash
# Builds and publishes the images of deploy/Dockerfile. Usage: images.sh build | push | join
#   build  pgdibs and pgdibs:postgres for this machine
#   push   the same, to the registry: $IMAGE:VERSION-ARCHITECTURE and $IMAGE:VERSION-postgres-ARCHITECTURE
#   join   tags the pushed architectures as VERSION, MAJOR.MINOR and latest, each also with -postgres
# VERSION is that of Cargo.toml. Base images are those of the Dockerfile unless RUST_IMAGE, POSTGRES_IMAGE, RUNTIME_IMAGE are set.
set -euo pipefail
cd "$(dirname "$0")/.."
image="${IMAGE:-pgdibs}"
version="$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)"

# build TARGET TAG OPTION...
build() {
  docker buildx build --file deploy/Dockerfile --target "$1" --tag "$2" --build-arg RUST_IMAGE --build-arg POSTGRES_IMAGE \
    --build-arg RUNTIME_IMAGE "${@:3}" .
}

case "${1:-}" in
  build)
    build daemon pgdibs --load
    build embedded pgdibs:postgres --load
    ;;
  push)
    build daemon "$image:$version-$(uname -m)" --push
    build embedded "$image:$version-postgres-$(uname -m)" --push
    ;;
  join)
    tags=("$version")
    # A pre-release moves no other tag.
    [[ "$version" == *-* ]] || tags+=("${version%.*}" latest)
    for suffix in "" -postgres; do
      for tag in "${tags[@]}"; do
        docker buildx imagetools create --tag "$image:$tag$suffix" "$image:$version$suffix-x86_64" "$image:$version$suffix-aarch64"
      done
    done
    ;;
  *)
    echo "usage: deploy/images.sh build | push | join" >&2
    exit 2
    ;;
esac
