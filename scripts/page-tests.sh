#!/usr/bin/env bash
# Runs the tests of the page in a browser and of the screen in a terminal: page-tests.sh [ARGUMENTS OF PYTEST]; or takes the pictures: page-tests.sh --pictures; or
# prints the figures of the page beside their goals, with a release build: page-tests.sh --figures.
source "$(dirname "$0")/environment.sh"
"$scripts/install-tools.sh" page
python="$("$scripts/python-environment.sh")"
export PGDIBS_CACHE
export PYTHONPATH="$repository/clients/python/tests/support:$repository/crates/pgdibs-server/tests/page"
cd crates/pgdibs-server/tests/page
if [[ "${1:-}" == --pictures ]]; then exec "$python" pictures.py; fi
if [[ "${1:-}" == --figures ]]; then
  cargo build --quiet --release --locked --workspace --bin pgdibs
  PGDIBS_BIN="$target/release/pgdibs" "$python" many_readers.py
  set -- -s test_size.py
fi
[[ $# -gt 0 ]] || set -- . "$repository/crates/pgdibs-cli/tests/terminal"
exec "$python" -m pytest -q -c pytest.ini "$@"
