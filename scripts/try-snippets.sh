#!/usr/bin/env bash
# Runs the snippets of docs/node.md and docs/go.md against a fresh daemon; installs node, npm, Go and its Postgres driver if missing.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
"$here/install-tools.sh" node go
exec python3 "$here/with-daemon.py" python3 "$here/check-snippets.py" node go
