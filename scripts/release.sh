#!/usr/bin/env bash
# The steps of a release that are not builds. Usage: release.sh notes TAG | push IMAGE | join IMAGE
source "$(dirname "$0")/environment.sh"
version="$(sed -nE '0,/^version = "(.*)"$/s//\1/p' Cargo.toml)"

# The section of the changelog for this version, to dist/release-notes.md. Tag, version and section must agree.
notes() {
  [[ "$1" == "v$version" ]] || fail "the tag is '$1', and the version of Cargo.toml $version: tag v$version, or change the version"
  mkdir -p dist
  awk -v heading="## [$version]" 'index($0, "## ") == 1 { inside = index($0, heading) == 1; next } inside' CHANGELOG.md >dist/release-notes.md
  grep -q '[^[:space:]]' dist/release-notes.md || fail "CHANGELOG.md has no section '## [$version] - date'"
}

# Both images for the architecture of this machine; `join` makes one tag of those of all architectures.
push() {
  local target suffix
  for target in daemon embedded; do
    suffix="$([[ $target == daemon ]] || echo -postgres)"
    docker build --file deploy/Dockerfile --target "$target" --tag "$1:$version$suffix-$(uname -m)" .
    docker push "$1:$version$suffix-$(uname -m)"
  done
}

join() {
  local suffix
  for suffix in "" -postgres; do
    docker buildx imagetools create --tag "$1:$version$suffix" --tag "$1:${version%.*}$suffix" --tag "$1:latest$suffix" \
      "$1:$version$suffix-x86_64" "$1:$version$suffix-aarch64"
  done
}

case "${1:-}" in
  notes | push | join) [[ -n "${2:-}" ]] || fail "release.sh $1 needs a value"; "$1" "$2" ;;
  *) fail "usage: release.sh notes TAG | push IMAGE | join IMAGE" ;;
esac
