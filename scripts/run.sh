#!/usr/bin/env bash
# `make run`: installs missing tools, builds the daemon and replaces itself with it, on an embedded Postgres.
# Settings come from the environment as everywhere (PGDIBS_LISTEN, PGDIBS_SERVER_URL, …).
source "$(dirname "$0")/environment.sh"
"$scripts/install-tools.sh" build
if [[ -z "${PGDIBS_SERVER_URL:-}" && -z "${PGDIBS_PG_BIN_DIR:-}" ]]; then
  PGDIBS_PG_BIN_DIR="$("$scripts/fetch-postgres.sh" any)"
  export PGDIBS_PG_BIN_DIR
fi
# A debug build takes half the time of a release build, and is fast enough to try things.
log "building the daemon (the first time takes some minutes)"
cargo build --quiet --package pgdibs-cli
log "pgdibs is about to listen on http://${PGDIBS_LISTEN:-127.0.0.1:7432} (Ctrl-C stops it). The next step, in another terminal:"
log '"A first test" in README.md.'
# Only for these scripts: the daemon warns about unknown PGDIBS_ variables.
unset PGDIBS_CACHE
exec "$target/debug/pgdibs" serve
