#!/usr/bin/env bash
# Runs the plugin's tests with other versions of what they test: pytest-versions.sh pytest==VERSION... | sqlalchemy==VERSION
# Each version has an environment in .cache. With SQLAlchemy only the tests of its connection guard and of resets run.
source "$(dirname "$0")/environment.sh"
"$scripts/install-tools.sh" uv
# Without Alembic, FastAPI and pytest-asyncio, so without the tests of pages and examples, which depend on no version of pytest.
packages=(pytest-xdist 'psycopg[binary]' psycopg-pool psycopg2-binary asyncpg pg8000 'sqlalchemy[asyncio]' pydantic-settings django pytest-django)
for version in "$@"; do
  environment="$repository/.cache/$version"
  "$tools/bin/uv" venv -q --clear --python python3 "$environment"
  grep -hE '^[a-z].*==' scripts/requirements.txt examples/{django-library,fastapi-shop}/requirements.txt | grep -vE "^${version%%==*}(\[|=)" >"$environment/pins.txt"
  "$tools/bin/uv" pip install -q --python "$environment" --constraint "$environment/pins.txt" pytest "$version" "${packages[@]}"
  "$environment/bin/python" scripts/link-client.py
  log "the plugin's tests with $version"
  if [[ "$version" == sqlalchemy* ]]; then
    "$environment/bin/python" -m pytest -q clients/python/tests/plugin/test_{guard_sqlalchemy,resets}.py
    continue
  fi
  "$environment/bin/python" -m pytest -q -n 2 --ignore=clients/python/tests/plugin/test_{sqlalchemy,per_test,fastapi,examples}.py clients/python/tests/plugin
  # The check of overrides reads private attributes of pytest's fixtures, so run it on each version.
  "$environment/bin/python" -m pytest -q -n 2 clients/python/tests/django/test_setup_overrides.py
done
