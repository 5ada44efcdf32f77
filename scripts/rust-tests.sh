#!/usr/bin/env bash
# Runs the Rust tests, with the conformance suite on each Postgres major given. Usage: rust-tests.sh MAJOR... [-- NEXTEST ARGS]
source "$(dirname "$0")/environment.sh"
majors=()
while [[ $# -gt 0 && "$1" != -- ]]; do
  majors+=("$1")
  shift
done
[[ ${#majors[@]} -gt 0 ]] || fail "usage: rust-tests.sh MAJOR... [-- NEXTEST ARGS]"
"$scripts/install-tools.sh" build nextest pgbouncer
use_postgres "${majors[@]}"
log "PGDIBS_TEST_PG_BIN_DIRS=$PGDIBS_TEST_PG_BIN_DIRS"
unset PGDIBS_CACHE
# Two threads per processor, because tests mostly wait for servers and deadlines.
exec cargo nextest run --workspace --test-threads "$(($(getconf _NPROCESSORS_ONLN) * 2))" "${@:2}"
