#!/usr/bin/env bash
# Runs every fault of docs/faults.md in turn on Postgres 15, with the tools that only they need. Usage: fault-tests.sh [NEXTEST ARGS]
source "$(dirname "$0")/environment.sh"
"$scripts/install-tools.sh" faketime
exec "$scripts/rust-tests.sh" 15 -- --profile faults "$@"
