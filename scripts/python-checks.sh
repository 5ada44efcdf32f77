#!/usr/bin/env bash
# Lints, formats (checking only) and type-checks the Python code.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"
"$here/python-environment.sh" >/dev/null
bin="$repository/.venv/bin"

"$bin/ruff" check scripts examples clients deploy
"$bin/ruff" format --check scripts examples clients deploy
(cd scripts && for file in *.py tests/*.py; do printf '%s\0' "$file"; done | xargs -0 "$bin/mypy" --strict --scripts-are-modules)
(cd deploy/smoke && MYPYPATH="$repository/clients/python/src" "$bin/mypy" --strict --scripts-are-modules ./*.py ../../fuzz/minimise.py)
(cd examples/fastapi-shop && "$bin/mypy" --strict)
(cd clients/python && "$bin/mypy")
for tests in client wheel; do
  (cd "clients/python/tests/$tests" && MYPYPATH="$repository/scripts:../../src" "$bin/mypy" --strict --scripts-are-modules ./*.py)
done
(cd clients/python/tests/plugin && MYPYPATH="$repository/scripts" "$bin/mypy" --strict --scripts-are-modules ./*.py)
(cd clients/python/tests/django && MYPYPATH="$repository/scripts:../plugin" "$bin/mypy" --strict --scripts-are-modules ./*.py)
(cd examples/django-library && "$bin/mypy")
(cd examples/fastapi && "$bin/mypy")
(cd examples/django && "$bin/mypy")
