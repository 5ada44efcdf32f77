#!/usr/bin/env bash
# Lints, formats (checking only) and type-checks the Python code; checks the links and anchors of the pages.
source "$(dirname "$0")/environment.sh"
"$scripts/python-environment.sh" >/dev/null
export PATH="$repository/.venv/bin:$PATH"
# One cache for all runs of mypy, because most of a run's time goes into the modules of other packages.
export MYPY_CACHE_DIR="$target/mypy"

ruff check
ruff format --check
rumdl check --quiet
# Packages have a configuration of their own.
for package in clients/python examples/*/; do (cd "$package" && mypy --strict); done
# Scripts and tests are no packages, so each directory is checked alone, with the modules that it imports from others.
# api/contract needs schemathesis, which is in no environment with pytest.
tests="$repository/clients/python/tests"
export MYPYPATH="$repository/clients/python/src:$tests/support:$tests/plugin:$repository/scripts:$repository/crates/pgdibs-server/tests/page"
git ls-files --cached --others --exclude-standard -- '*.py' ':!examples' ':!clients/python/src' ':!clients/python/bench' ':!api/contract' | xargs dirname | sort -u |
  while read -r directory; do
    (cd "$directory" && mypy --strict --scripts-are-modules ./*.py)
  done
