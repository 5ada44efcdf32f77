#!/usr/bin/env bash
# `make bench`: a release build, then the benchmark. Usage: bench.sh [FLAGS OF pgdibs-bench], such as bench.sh --quick
# Without flags it writes the results into the picture of the README and the table of docs/performance.md.
source "$(dirname "$0")/environment.sh"
"$scripts/install-tools.sh" build
PGDIBS_PG_BIN_DIR="${PGDIBS_PG_BIN_DIR:-$("$scripts/fetch-postgres.sh" any)}"
export PGDIBS_PG_BIN_DIR
cargo build --quiet --release --package pgdibs-cli --package pgdibs-bench
# Only for these scripts: the daemon warns about unknown PGDIBS_ variables.
unset PGDIBS_CACHE
# As a part of `make test-all` it changes no file.
if [[ $# == 0 && -z "${TASK_LOGS:-}" ]]; then
  set -- --write docs/pictures/bench.svg --write docs/performance.md
fi
exec "$target/release/pgdibs-bench" "$@"
