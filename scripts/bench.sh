#!/usr/bin/env bash
# `make bench`: a release build, then the benchmark on an embedded Postgres.
source "$(dirname "$0")/environment.sh"
"$scripts/install-tools.sh" build
PGDIBS_PG_BIN_DIR="${PGDIBS_PG_BIN_DIR:-$("$scripts/fetch-postgres.sh" any)}"
export PGDIBS_PG_BIN_DIR
cargo build --quiet --release --package pgdibs-cli --package pgdibs-bench
# Only for these scripts: the daemon warns about unknown PGDIBS_ variables.
unset PGDIBS_CACHE
exec "$target/release/pgdibs-bench" "$@"
