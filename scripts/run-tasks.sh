#!/usr/bin/env bash
# Installs the requirements of the tasks (a compiler, cargo, Python), then runs the tasks. Usage: run-tasks.sh check|test|test-all [TASK...]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"

"$here/install-tools.sh" build python
# For a cold build, incremental compilation adds a tenth of the time for nothing.
[[ -d "$target/debug/incremental" ]] || export CARGO_INCREMENTAL=0
exec python3 "$here/run-tasks.py" "$@"
