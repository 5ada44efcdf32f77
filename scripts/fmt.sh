#!/usr/bin/env bash
# `make fmt`: formats the Rust and the Python code in place, with the versions that the checks use.
source "$(dirname "$0")/environment.sh"
"$scripts/install-tools.sh" build
"$scripts/python-environment.sh" >/dev/null
cargo fmt --all
.venv/bin/ruff check --quiet --fix
.venv/bin/ruff format --quiet
