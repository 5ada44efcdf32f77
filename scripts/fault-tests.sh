#!/usr/bin/env bash
# Runs every fault of docs/faults.md in turn on Postgres 15, with the tools that only they need. Usage: fault-tests.sh [NEXTEST ARGS]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
"$here/install-tools.sh" faketime
exec "$here/rust-tests.sh" 15 -- --profile faults "$@"
