#!/usr/bin/env bash
# Tests the HTTP API of a fresh daemon with schemathesis. Usage: contract-test.sh --seconds N | --requests N [--seed N]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
"$here/install-tools.sh" schemathesis
SCHEMATHESIS="$tools-schemathesis/bin/st" exec python3 "$here/with-daemon.py" python3 "$here/contract-test.py" "$@"
