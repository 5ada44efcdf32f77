#!/usr/bin/env bash
# Starts each given Postgres on a temporary cluster and creates the extensions that real schemas use.
# Usage: try-postgres.sh MAJOR...
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
extensions=(pgcrypto citext pg_trgm hstore uuid-ossp postgres_fdw)

# Postgres refuses to run as root.
unprivileged() {
  if [[ "$(id -u)" == 0 ]]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi
}

try_one() (
  set -e
  bin="$("$here/fetch-postgres.sh" "$1")"
  # The path of a socket has at most 107 bytes, so the cluster is directly below /tmp.
  cluster="$(unprivileged mktemp -d /tmp/pgdibs-try.XXXXXX)"
  cd "$cluster"
  # shellcheck disable=SC2064  # expand the variables now
  trap "unprivileged '$bin/pg_ctl' -D '$cluster/data' -s -m immediate stop 2>/dev/null; rm -rf '$cluster'" EXIT
  unprivileged "$bin/initdb" -D "$cluster/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$cluster/initdb.log" 2>&1 ||
    fail "initdb of $bin failed: $(cat "$cluster/initdb.log")"
  unprivileged "$bin/pg_ctl" -D "$cluster/data" -s -w -l "$cluster/log" \
    -o "-c listen_addresses= -k $cluster -c fsync=off" start || fail "$bin did not start: $(tail -n 20 "$cluster/log")"
  query() { unprivileged "$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$cluster" -U postgres -Atc "$1"; }
  for extension in "${extensions[@]}"; do query "create extension \"$extension\""; done
  printf '%s: %s\n' "$bin" "$(query 'select version()')"
)

[[ $# -gt 0 ]] || fail "usage: try-postgres.sh MAJOR..."
for major in "$@"; do try_one "$major"; done
