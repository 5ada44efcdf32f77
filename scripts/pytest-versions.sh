#!/usr/bin/env bash
# Runs the plugin's tests on other versions of pytest: pytest-versions.sh VERSION... Each has an environment of its own in .cache.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"

for version in "$@"; do
  environment="$repository/.cache/pytest-$version"
  if [[ ! -f "$environment/installed" ]]; then
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install -q --disable-pip-version-check "pytest==$version" pytest-xdist==3.8.0 'psycopg[binary]==3.3.9' \
      psycopg-pool==3.3.3 psycopg2-binary==2.9.13 asyncpg==0.32.0 pg8000==1.31.6 'sqlalchemy[asyncio]==2.1.9' alembic==1.20.1 \
      pydantic-settings==2.16.3
    touch "$environment/installed"
  fi
  "$environment/bin/python" scripts/link-client.py
  say "the plugin's tests on pytest $version"
  # The page about SQLAlchemy needs Alembic and pytest-asyncio; it says nothing about versions of pytest.
  "$environment/bin/python" -m pytest -q -n 2 --ignore clients/python/tests/plugin/test_sqlalchemy.py clients/python/tests/plugin
done
