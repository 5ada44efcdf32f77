#!/usr/bin/env bash
# Prints build arguments (NAME=IMAGE) for the base images of the Dockerfiles: none if a registry answers. Otherwise it builds two
# stand-ins from packages of Debian 13: one with Postgres, Python, a C compiler and this machine's Rust, and one without a shell.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/../../scripts/environment.sh"
debian=pgdibs-smoke/debian runtime=pgdibs-smoke/runtime
if docker pull --quiet postgres:17 &>/dev/null; then exit; fi
command -v mmdebstrap >/dev/null || apt_install mmdebstrap

# packages IMAGE VARIANT PACKAGES OPTION...: makes an image of packages, once.
packages() {
  [[ -z "$(docker images --quiet "$1")" ]] || return 0
  log "no registry answers; making $1 from Debian packages"
  mmdebstrap --quiet --mode=root --variant="$2" --include="$3" "${@:4}" trixie - http://deb.debian.org/debian |
    docker import --change 'ENV CARGO_HOME=/usr/local/cargo PGDATA=/var/lib/postgresql/data LANG=C.UTF-8' \
      --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' --change 'ENTRYPOINT ["docker-entrypoint.sh"]' --change 'CMD ["postgres"]' \
      --change 'ENV PATH=/opt/python/bin:/usr/lib/postgresql/17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$1" >&2
}
sysroot="$(rustc --print sysroot)"
# The user has the number of the official image. The certificates are this machine's, because its registries may be mirrors.
# shellcheck disable=SC2016  # mmdebstrap expands $1, the directory of the image
packages "$debian" minbase postgresql,gcc,libc6-dev,python3-venv,ca-certificates \
  --essential-hook='echo postgres:x:999:999::/var/lib/postgresql:/bin/bash >>"$1/etc/passwd"; echo postgres:x:999: >>"$1/etc/group"' \
  --customize-hook="copy-in $sysroot/bin $sysroot/lib /usr/local" --customize-hook="copy-in $here/docker-entrypoint.sh /usr/local/bin" \
  --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' --customize-hook='chroot "$1" python3 -m venv /opt/python'
packages "$runtime" extract base-files,libc6,libgcc-s1,libssl3t64
docker tag "$debian" postgres:17
printf '%s\n' "RUST_IMAGE=$debian" "POSTGRES_IMAGE=$debian" "PYTHON_IMAGE=$debian" "RUNTIME_IMAGE=$runtime"
