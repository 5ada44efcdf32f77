#!/usr/bin/env bash
# `make fmt`: formats the Rust and the Python code in place, with the versions that the checks use.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"

cd "$repository"
"$here/install-tools.sh" build python
"$here/python-environment.sh" >/dev/null
cargo fmt --all
.venv/bin/ruff check --quiet --fix scripts examples clients deploy
.venv/bin/ruff format --quiet scripts examples clients deploy
