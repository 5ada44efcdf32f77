#!/usr/bin/env bash
# `make run`: installs what is missing, builds the daemon and becomes it, on a Postgres of its own.
# Settings come from the environment as everywhere (PGDIBS_LISTEN, PGDIBS_SERVER_URL, …).
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"

"$here/install-tools.sh" build
if [[ -z "${PGDIBS_SERVER_URL:-}" && -z "${PGDIBS_PG_BIN_DIR:-}" ]]; then
  PGDIBS_PG_BIN_DIR="$("$here/fetch-postgres.sh" any)"
  export PGDIBS_PG_BIN_DIR
fi

# A debug build: half the time of a release build on a fresh machine, and quick enough to try things with.
cd "$repository"
say "building the daemon (the first time takes some minutes)"
cargo build --quiet --package pgdibs-cli

say ""
say "pgdibs is about to listen on http://${PGDIBS_LISTEN:-127.0.0.1:7432} (Ctrl-C stops it). In another terminal, from README.md:"
python3 "$here/check-readme.py" --print >&2 2>/dev/null || say "  (see README.md)"
say ""
# For these scripts only: the daemon warns about PGDIBS_ variables it does not know.
unset PGDIBS_CACHE
exec "$target/debug/pgdibs" serve
