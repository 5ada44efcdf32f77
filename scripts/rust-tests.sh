#!/usr/bin/env bash
# Runs the Rust tests, with the conformance suite on each Postgres major given. Usage: rust-tests.sh MAJOR... [-- NEXTEST ARGS]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"

majors=()
while [[ $# -gt 0 && "$1" != -- ]]; do
  majors+=("$1")
  shift
done
[[ "${1:-}" != -- ]] || shift
[[ ${#majors[@]} -gt 0 ]] || fail "usage: rust-tests.sh MAJOR... [-- NEXTEST ARGS]"

"$here/install-tools.sh" build nextest pgbouncer
directories="$("$here/fetch-postgres.sh" "${majors[@]}")"
PGDIBS_TEST_PG_BIN_DIRS="$(paste -s -d : <<<"$directories")"
# Tests that need one Postgres of any major use the first.
PGDIBS_TEST_PG_BIN_DIR="${PGDIBS_TEST_PG_BIN_DIRS%%:*}"
export PGDIBS_TEST_PG_BIN_DIRS PGDIBS_TEST_PG_BIN_DIR
# Last on PATH, for psql and pg_config on a machine without an installed Postgres.
PATH="$PATH:$PGDIBS_TEST_PG_BIN_DIR"
log "PGDIBS_TEST_PG_BIN_DIRS=$PGDIBS_TEST_PG_BIN_DIRS"
cd "$repository"
unset PGDIBS_CACHE
# Two threads per processor, because tests mostly wait for servers and deadlines.
exec cargo nextest run --workspace --test-threads "$(($(getconf _NPROCESSORS_ONLN) * 2))" "$@"
