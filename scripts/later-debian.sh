#!/usr/bin/env bash
# Unpacks packages of Debian 13 below a directory, for programs that Debian 12 lacks, without changing apt on this machine.
# Usage: later-debian.sh INTO PACKAGE...   (for static programs: it fetches no dependencies)
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
[[ $# -ge 2 ]] || fail "usage: later-debian.sh INTO PACKAGE..."
into="$1"
shift
command -v apt-get >/dev/null || fail "this needs a Debian or Ubuntu; install these yourself: $*"

work="$(mktemp -d "$PGDIBS_CACHE/debian-13.XXXXXX")"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,archives/partial,packages} "$into"
# The mirror of this machine.
mirror="$(find /etc/apt \( -name '*.sources' -o -name '*.list' \) -exec cat {} + |
  sed -nE '0,/\/debian/s#^(URIs:|deb(-src)?( \[[^]]*\])?) *(https?://[^ ]*/debian)/?( .*)?$#\4#p')"
printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie main\n' "${mirror:-http://deb.debian.org/debian}" \
  >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
APT::Sandbox::User "root";
CONF
export APT_CONFIG="$work/apt.conf"
log "fetching from Debian 13: $*"
apt-get update -qq >&2
(cd "$work/packages" && apt-get download -qq "$@" >&2)
for package in "$work"/packages/*.deb; do dpkg --extract "$package" "$into"; done
