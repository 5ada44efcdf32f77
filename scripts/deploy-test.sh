#!/usr/bin/env bash
# Smoke test of the images, the compose stack, the CI jobs, the pod and the unit on a real engine. Usage: deploy-test.sh [--only PART,PART]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"
"$here/install-tools.sh" build python
python="$("$here/python-environment.sh")"
cargo build --quiet --locked --package pgdibs-cli
exec "$python" deploy/trial/trial.py "$@"
