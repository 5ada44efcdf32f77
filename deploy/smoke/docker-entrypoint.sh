#!/usr/bin/env bash
# The part of the official image's entrypoint that this repository's files use: POSTGRES_PASSWORD, POSTGRES_INITDB_ARGS, PGDATA.
set -euo pipefail
if [[ "$1" == postgres && "$(id -u)" == 0 ]]; then
  install -d -o postgres -g postgres "$PGDATA" /var/run/postgresql
  exec setpriv --reuid postgres --regid postgres --init-groups env HOME=/var/lib/postgresql "$0" "$@"
elif [[ "$1" == postgres && ! -s "$PGDATA/PG_VERSION" ]]; then
  # The official entrypoint expands the arguments with eval, too.
  eval 'initdb --username=postgres --auth=scram-sha-256 --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"${POSTGRES_INITDB_ARGS:-}"
  printf '\nlisten_addresses = '"'*'"'\n' >>"$PGDATA/postgresql.conf"
  printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
fi
exec "$@"
