#!/usr/bin/env bash
# `make bench`: a release build, then the benchmark on an embedded Postgres.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"

"$here/install-tools.sh" build
if [[ -z "${PGDIBS_PG_BIN_DIR:-}" ]]; then
  PGDIBS_PG_BIN_DIR="$("$here/fetch-postgres.sh" any)"
  export PGDIBS_PG_BIN_DIR
fi
cd "$repository"
cargo build --quiet --release --package pgdibs-cli --package pgdibs-bench
# Only for these scripts: the daemon warns about unknown PGDIBS_ variables.
unset PGDIBS_CACHE
exec "$target/release/pgdibs-bench" "$@"
