"""Connections that are older than a reset: engines in modules reconnect without a hook, failures of others are explained."""

from __future__ import annotations

import pytest
from projects import Project

pytestmark = pytest.mark.shared_pool

EXPLANATION = "pgdibs has reset the database of this process, and a reset ends every session on it."
APP = """
import asyncio, os, sqlalchemy
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool
def engine(driver, create=create_engine, **options):
    return create(os.environ["DATABASE_URL"].replace("postgresql", f"postgresql+{driver}", 1), **options)
drivers, async_drivers = ["psycopg2", "pg8000"], ["asyncpg"]
if not sqlalchemy.__version__.startswith("1."):
    drivers, async_drivers = [*drivers, "psycopg"], [*async_drivers, "psycopg"]
SYNC = {driver: engine(driver) for driver in drivers}
SYNC["one connection"] = engine("psycopg2", poolclass=StaticPool)
ASYNC = {driver: engine(driver, create_async_engine) for driver in async_drivers}
MEMORY = create_engine("sqlite://", poolclass=StaticPool)
INSERT, COUNT = text("insert into notes (body) values ('x')"), text("select count(*) from notes")
async def add_and_count(engine):
    async with engine.begin() as connection:
        await connection.execute(INSERT)
        return await connection.scalar(COUNT)
"""
TESTS = """
import app, asyncio, pytest
from sqlalchemy import text
LOOP = asyncio.new_event_loop()
def test_fixture(pgdibs_fresh_url):
    check_engines(1)
@pytest.mark.pgdibs(reset="before")
def test_marker():
    check_engines(2)
def test_reset_by_test(pgdibs_lease):
    pgdibs_lease.reset()
    check_engines(3)
def check_engines(kind):
    for number, (name, engine) in enumerate(app.SYNC.items()):
        with engine.begin() as connection:
            connection.execute(app.INSERT)
            assert connection.scalar(app.COUNT) == number + 1, name
    for number, (name, engine) in enumerate(app.ASYNC.items()):
        assert LOOP.run_until_complete(app.add_and_count(engine)) == len(app.SYNC) + number + 1, name
    with app.MEMORY.begin() as connection:  # no reset ends this connection, which has the only copy of its rows
        connection.execute(text("create table if not exists seen (number int)"))
        connection.execute(text("insert into seen values (1)"))
        assert connection.scalar(text("select count(*) from seen")) == kind
@pytest.mark.pgdibs(reset="before")
@pytest.mark.parametrize("number", range(2))
def test_loop_per_test(number):
    assert asyncio.run(app.add_and_count(app.ASYNC["asyncpg"])) == 1
"""


# Public trackers: TracecatHQ/tracecat#1956 (an async engine of a module, and an event loop for each test).
@pytest.mark.parametrize("guard", ["error", pytest.param("off", marks=pytest.mark.long)])
def test_module_level_engines_reconnect_after_reset(project: Project, guard: str) -> None:
    project.file("app.py", APP)
    project.file("test_it.py", TESTS)
    project.settings.update(pythonpath=".", pgdibs_guard=guard)
    ran = project.run("-n0")
    ran.assert_passed(5)
    assert "Traceback" not in ran.output and "Exception" not in ran.output


HELD = """
import asyncio, os, pytest, psycopg, psycopg2, asyncpg, sqlalchemy
URL = os.environ["DATABASE_URL"]
loop = asyncio.new_event_loop()
engine = sqlalchemy.create_engine(URL.replace("postgresql", "postgresql+psycopg2", 1))
HELD = {
    "psycopg": psycopg.connect(URL), "psycopg2": psycopg2.connect(URL), "asyncpg": loop.run_until_complete(asyncpg.connect(URL)),
    "engine": engine.connect(),
}
def query(name):
    if name == "asyncpg":
        loop.run_until_complete(HELD[name].execute("select 1"))
    elif name == "engine":
        HELD[name].exec_driver_sql("select 1")
    else:
        HELD[name].cursor().execute("select 1")
@pytest.mark.parametrize("name", HELD)
def test_before_reset(name):
    query(name)
@pytest.mark.pgdibs(reset="before")
def test_reset():
    pass
@pytest.mark.parametrize("name", HELD)
def test_ended(name):
    query(name)
@pytest.mark.parametrize("name", ["psycopg", "psycopg2", "asyncpg"])
def test_ended_once_more(name):
    query(name)
def test_other_error():
    with psycopg.connect(URL) as connection:
        connection.execute("select no_such_column")
def test_error_of_project():
    raise ValueError("the shop is closed")
"""


# Public trackers: dbfixtures/pytest-postgresql#1177 (AdminShutdown of a connection that outlives its database).
def test_failure_of_connection_that_reset_ended_is_explained(project: Project) -> None:
    project.file("test_it.py", HELD)
    ran = project.run("-n0")
    assert (ran.counted("passed"), ran.counted("failed")) == (5, 9), ran.output
    assert ran.output.count(EXPLANATION) == 7


CONFTEST = """
import pytest
@pytest.hookimpl(optionalhook=True)
def pytest_pgdibs_before_reset():
    open("closed", "a").write("closed ")
"""


def test_optional_hook_needs_no_plugin(project: Project) -> None:
    project.file("conftest.py", CONFTEST)
    project.file("test_it.py", 'import pytest\n@pytest.mark.pgdibs(reset="before")\ndef test_it():\n    pass\n')
    project.run("-n0").assert_passed(1)
    assert project.text("closed") == "closed "
    # As docs/python/pytest.md says: a colleague without the package, also with strict markers.
    project.run("-n0", "--strict-markers", "-o", "markers=pgdibs(reset): clean", plugins=["-p", "xdist"]).assert_passed(1)
