#!/usr/bin/env bash
# Unpacks packages of Debian 13 below a directory, for static programs that Debian 12 lacks, without changing apt on this machine.
# Usage: later-debian.sh INTO PACKAGE...
source "$(dirname "$0")/environment.sh"
[[ $# -ge 2 ]] || fail "usage: later-debian.sh INTO PACKAGE..."
command -v apt-get >/dev/null || fail "this needs a Debian or Ubuntu; install these yourself: ${*:2}"
work="$(mktemp -d "$PGDIBS_CACHE/debian-13.XXXXXX")"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,archives/partial,packages} "$1"
# The mirror of this machine.
# shellcheck disable=SC2016  # the format is for apt-get
mirror="$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 '/debian/$' || true)"
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
log "fetching from Debian 13: ${*:2}"
apt-get update -qq >&2
(cd "$work/packages" && apt-get download -qq "${@:2}" >&2)
for package in "$work"/packages/*.deb; do dpkg --extract "$package" "$1"; done
