#!/usr/bin/env bash
# Runs the tests of the connection guard for SQLAlchemy on 1.4, in an environment of its own in .cache.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"

environment="$repository/.cache/sqlalchemy-1.4"
if [[ ! -f "$environment/installed" ]]; then
  python3 -m venv --clear "$environment"
  "$environment/bin/pip" install -q --disable-pip-version-check 'sqlalchemy[asyncio]==1.4.54' pytest==9.2.0 pytest-xdist==3.8.0 \
    'psycopg[binary]==3.3.9' psycopg2-binary==2.9.13 asyncpg==0.32.0
  touch "$environment/installed"
fi
"$environment/bin/python" scripts/link-client.py
"$environment/bin/python" -m pytest -q clients/python/tests/plugin/test_guard_sqlalchemy.py
