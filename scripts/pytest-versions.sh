#!/usr/bin/env bash
# Runs the plugin's tests on other versions of pytest: pytest-versions.sh VERSION... Each version has an environment in .cache.
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
  if [[ ! -f "$environment/installed-django" ]]; then
    # The Django and the pytest-django of the example, without its pytest.
    grep -E '^(django|pytest-django)==' examples/django-library/requirements.txt >"$environment/django.txt"
    "$environment/bin/pip" install -q --disable-pip-version-check --requirement "$environment/django.txt"
    touch "$environment/installed-django"
  fi
  "$environment/bin/python" scripts/link-client.py
  log "the plugin's tests on pytest $version"
  # The page about SQLAlchemy needs Alembic and pytest-asyncio, and does not depend on the version of pytest.
  "$environment/bin/python" -m pytest -q -n 2 --ignore clients/python/tests/plugin/test_sqlalchemy.py clients/python/tests/plugin
  # The check of overrides reads private attributes of pytest's fixtures, so run it on each version.
  "$environment/bin/python" -m pytest -q -n 2 clients/python/tests/django/test_setup_overrides.py
done
