#!/usr/bin/env bash
# What the official image's entrypoint does with the variables that our files set: POSTGRES_PASSWORD, POSTGRES_INITDB_ARGS, PGDATA.
set -euo pipefail
if [[ "$(id -u)" == 0 ]]; then
  install -d -o postgres -g postgres -m 700 "$PGDATA"
  exec setpriv --reuid postgres --regid postgres --init-groups env HOME=/var/lib/postgresql "$0" "$@"
fi
if [[ ! -s "$PGDATA/PG_VERSION" ]]; then
  # Word by word, as the official one reads it.
  eval 'initdb --username=postgres --auth=scram-sha-256 --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"${POSTGRES_INITDB_ARGS:-}"
  printf '\nlisten_addresses = '"'*'"'\n' >>"$PGDATA/postgresql.conf"
  printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
fi
exec "$@"
