"""The connection guard and SQLAlchemy: on 2 with the other tests, on 1.4 by scripts/pytest-versions.sh."""

from __future__ import annotations

import pytest
from developers import WRITES, DeveloperDatabase
from projects import PLUGINS, Project

pytestmark = pytest.mark.shared_pool

SYNC = f"""
import os, sqlalchemy
engine = sqlalchemy.create_engine(os.environ["DATABASE_URL"].replace("postgresql", "postgresql+psycopg2", 1))
def write():
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text({WRITES!r}))
"""
ASYNC = f"""
import asyncio, os, sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
url = os.environ["DATABASE_URL"].replace("postgresql", "postgresql+asyncpg", 1)
async def connect():
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(sqlalchemy.text({WRITES!r}))
    await engine.dispose()
def write():
    asyncio.run(connect())
"""
TESTS = """
import pytest
import app, sqlalchemy
@pytest.mark.parametrize("number", range(3))
def test_it(number):
    for attempt in range(3):
        try:
            return app.write()
        except (sqlalchemy.exc.DBAPIError, OSError):
            pass
"""


@pytest.mark.parametrize("app", [pytest.param(SYNC, id="sync"), pytest.param(ASYNC, id="async", marks=pytest.mark.long)])
def test_engine_is_stopped_if_built_before_or_after(project: Project, developer: DeveloperDatabase, app: str) -> None:
    driver = "psycopg2" if app is SYNC else "asyncpg"
    project.file("app.py", app)
    project.file("test_it.py", TESTS)
    project.settings["pythonpath"] = "."
    project.environment.update(DATABASE_URL=developer.url(), PYTHONPATH=str(project.pytester.path))
    project.run().assert_passed(3)
    developer.assert_untouched()
    # An engine built before pytest loads the plugin.
    ran = project.run(plugins=["-p", "app", *PLUGINS])
    developer.assert_stopped(ran, f"by SQLAlchemy with {driver} opened at app.py:", "from DATABASE_URL before pgdibs set it")
    project.file("conftest.py", f"import os\nos.environ['DATABASE_URL'] = '{developer.url()}'\n")
    ran = project.run("-n0")
    developer.assert_stopped(ran, f"by SQLAlchemy with {driver} opened at app.py:", "conftest.py:2 sets DATABASE_URL after")
    project.run("--pgdibs-guard=off").assert_passed(3)
    developer.assert_written()
