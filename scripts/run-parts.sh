#!/usr/bin/env bash
# Installs what the parts themselves need (a compiler, cargo, Python), then runs them. Usage: run-parts.sh check|test|test-all [PART...]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"

"$here/install-tools.sh" build python
# Cold, incremental compilation costs a tenth of the time and gains nothing.
[[ -d "$target/debug/incremental" ]] || export CARGO_INCREMENTAL=0
exec python3 "$here/run-parts.py" "$@"
