"""The causes that the connection guard finds for connections to a developer's own database."""

from __future__ import annotations

from typing import Optional

import pytest
from developers import WRITES, DeveloperDatabase, without_guard
from projects import Project

from pgdibs.plugin.connection_guard.causes import parts_beside

pytestmark = pytest.mark.shared_pool

MOSTLY_WORKERS = pytest.mark.parametrize("workers", ["-n2", pytest.param("-n0", marks=pytest.mark.long)])
MOSTLY_SERIAL = pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])

# A typical application: the URL from the environment or a `.env` file, an engine, and a fixture.
APP = """
import os, dotenv, sqlalchemy
engine = sqlalchemy.create_engine(os.environ.get("DATABASE_URL") or dotenv.dotenv_values(".env")["DATABASE_URL"])
"""
CONFTEST = """
import app, pytest, sqlalchemy
@pytest.fixture
def connection():
    with app.engine.begin() as connection:
        yield connection
"""
TESTS = f"""
import pytest, sqlalchemy
@pytest.mark.parametrize("number", range(10))
def test_note(number, connection):
    connection.execute(sqlalchemy.text({WRITES!r}))
"""

ALEMBIC_ENV = """
import alembic.context, sqlalchemy
engine = sqlalchemy.engine_from_config(alembic.context.config.get_section("alembic"))
with engine.connect() as connection:
    alembic.context.configure(connection=connection)
    with alembic.context.begin_transaction():
        alembic.context.run_migrations()
"""
ALEMBIC_REVISION = """
import alembic.op
revision, down_revision = "first", None
def upgrade():
    alembic.op.execute("drop table notes")
"""
ALEMBIC_FIXTURE = """
import alembic.command, alembic.config
@pytest.fixture(scope="session", autouse=True)
def migrate():
    alembic.command.upgrade(alembic.config.Config("alembic.ini"), "head")
"""


@pytest.fixture
def shop(project: Project) -> Project:
    """A project that uses its own fixtures and none of pgdibs."""
    project.file("app.py", APP)
    project.file("conftest.py", CONFTEST)
    project.file("test_notes.py", TESTS)
    project.settings["pythonpath"] = "."
    return project


def dotenv(project: Project, database: DeveloperDatabase, name: str = "DATABASE_URL") -> None:
    """The developer's `.env`."""
    project.file(".env", f"# of the developer\n{name}={database.url('postgresql+psycopg')}\n")


@MOSTLY_SERIAL
def test_url_in_dotenv_without_pgdibs_env_is_named(shop: Project, developer: DeveloperDatabase, workers: str) -> None:
    dotenv(shop, developer)
    shop.settings["pgdibs_env"] = ""
    developer.assert_stopped(
        shop.run(workers),
        "SQLAlchemy with psycopg opened at conftest.py:5",
        f"it should have been a lease of pool {shop.pool}",
        "DATABASE_URL in .env:2 names this database and is not in pgdibs_env; add it: pgdibs_env = DATABASE_URL.",
    )
    without_guard(shop, developer, workers).assert_passed(10)


@MOSTLY_SERIAL
def test_misspelt_pgdibs_env_is_named(shop: Project, developer: DeveloperDatabase, workers: str) -> None:
    dotenv(shop, developer)
    shop.settings["pgdibs_env"] = "DATABSE_URL"
    developer.assert_stopped(
        shop.run(workers),
        f"it should have been {shop.pool}_gw",
        "not in pgdibs_env; it has DATABSE_URL, which may be a misspelling (if so, leave it out); add it: "
        "pgdibs_env = DATABSE_URL DATABASE_URL.",
    )


@MOSTLY_SERIAL
def test_conftest_that_sets_variable_is_named(shop: Project, developer: DeveloperDatabase, workers: str) -> None:
    shop.file("conftest.py", f'import os\n\nos.environ["DATABASE_URL"] = "{developer.url("postgresql+psycopg")}"\n{CONFTEST}')
    developer.assert_stopped(
        shop.run(workers),
        f"it should have been {shop.pool}_gw",
        "conftest.py:3 sets DATABASE_URL after pgdibs has set it; delete that line.",
    )
    without_guard(shop, developer, workers).assert_passed(10)


@MOSTLY_WORKERS
def test_engine_built_before_the_plugin_is_named(shop: Project, developer: DeveloperDatabase, workers: str) -> None:
    shop.environment.update(DATABASE_URL=developer.url("postgresql+psycopg"), PYTHONPATH=str(shop.pytester.path))
    # A worker never sees the developer's URL: the variables of its controller are unavailable.
    developer.assert_ended(
        shop.run("-p", "app", workers),
        developer.place if workers == "-n0" else "database none on 127.0.0.1:1",
        f"it should have been {shop.pool}_gw",
        "app.engine was built from DATABASE_URL before pgdibs set it: something imports the application before the conftest",
    )
    if workers == "-n0":
        without_guard(shop, developer, "-p", "app", workers).assert_passed(10)


# Public trackers: digital-land/digital-land.info#570 (`load_dotenv(override=True)` in the suite's conftest.py).
@pytest.mark.long
def test_load_dotenv_that_overrides_is_named(shop: Project, developer: DeveloperDatabase) -> None:
    dotenv(shop, developer)
    shop.file("conftest.py", f"import dotenv\ndotenv.load_dotenv(override=True)\n{CONFTEST}")
    developer.assert_stopped(
        shop.run(), "conftest.py:2 (load_dotenv with override=True) sets DATABASE_URL after pgdibs has set it"
    )


# Public trackers: DariuszNewecki/CORE#592 (pytest-dotenv, `env_override_existing_values`); this is what that plugin does.
DOTENV_PLUGIN = """
import dotenv, pytest
@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests():
    dotenv.load_dotenv(dotenv.find_dotenv(".env.test", usecwd=True), override=True)
"""


@pytest.mark.long
def test_plugin_that_overrides_variables_is_named(shop: Project, developer: DeveloperDatabase) -> None:
    plugin = shop.file("site-packages/dotenv_plugin.py", DOTENV_PLUGIN)
    shop.file(".env.test", f"DEBUG=1\nDATABASE_URL={developer.url('postgresql+psycopg')}\n")
    shop.environment["PYTHONPATH"] = str(plugin.parent)
    ran = shop.run("-p", "dotenv_plugin")
    developer.assert_stopped(ran, "DATABASE_URL was changed to the value in .env.test:2, after pgdibs had set it, by a plugin or")


# Public trackers: andela/mrm_api#280, mozilla-services/socorro#4004 (Alembic takes its own URL from alembic.ini).
@pytest.mark.long
def test_alembic_with_its_own_url_is_named(shop: Project, developer: DeveloperDatabase) -> None:
    shop.file("alembic.ini", f"[alembic]\nscript_location = migrations\nsqlalchemy.url = {developer.url('postgresql+psycopg')}\n")
    shop.file("migrations/script.py.mako", "")
    shop.file("migrations/env.py", ALEMBIC_ENV)
    shop.file("migrations/versions/first.py", ALEMBIC_REVISION)
    shop.file("conftest.py", f"{CONFTEST}{ALEMBIC_FIXTURE}")
    developer.assert_stopped(
        shop.run(), "opened at migrations/env.py:", "alembic.ini:3 names this database; read it from a variable"
    )
    without_guard(shop, developer)


# Public trackers: Kludex/starlette#428 (a fixture that creates and drops the test database).
CREATE_FIXTURE = """
import os, psycopg
@pytest.fixture(scope="session", autouse=True)
def create_test_database():
    server, _, database = os.environ["DATABASE_URL"].rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"drop database if exists {database}")
        connection.execute(f"create database {database}")
"""


@pytest.mark.long
def test_fixture_that_creates_databases_is_named(shop: Project, developer: DeveloperDatabase) -> None:
    shop.file("app.py", "")
    shop.file("conftest.py", f"import pytest\n{CREATE_FIXTURE}")
    shop.file("test_notes.py", "def test_it():\n    pass\n")
    developer.assert_ended(
        shop.run(),
        "by psycopg opened at conftest.py:7 to database postgres",
        "postgres is the maintenance database of the",
    )


@pytest.mark.long
def test_url_in_code_is_named(shop: Project, developer: DeveloperDatabase) -> None:
    shop.file("app.py", f"import sqlalchemy\nengine = sqlalchemy.create_engine('{developer.url('postgresql+psycopg')}')\n")
    developer.assert_stopped(shop.run(), "app.py:2 names this database; read it from a variable of pgdibs_env there")


@pytest.mark.long
def test_parts_in_variables_are_named(shop: Project, developer: DeveloperDatabase) -> None:
    shop.file(
        "app.py",
        """
import os, sqlalchemy
part = os.environ.get
url = sqlalchemy.URL.create("postgresql+psycopg", part("DB_USER"), None, part("DB_HOST"), int(part("DB_PORT")), part("DB_NAME"))
engine = sqlalchemy.create_engine(url)
""",
    )
    shop.settings["pgdibs_env"] = "DB_HOST=default.host DB_USER=default.user"
    shop.environment.update(DB_HOST="x", DB_USER="postgres", DB_PORT=str(developer.server.port), DB_NAME=developer.name)
    developer.assert_stopped(
        shop.run(),
        "DB_NAME names this database and is not in pgdibs_env; add it: "
        "pgdibs_env = DB_HOST=default.host DB_USER=default.user DB_PORT=default.port DB_NAME=default.database.",
    )


OTHER_NAME = """
import os, sqlalchemy
engine = sqlalchemy.create_engine(os.environ["DB_DSN"])
"""


# DATABASE_URL had the same value before, but the engine is built later, from the other variable.
@pytest.mark.long
@MOSTLY_SERIAL
@pytest.mark.parametrize("entries", [pytest.param(None, marks=pytest.mark.long), "DATABASE_URL=postgresql+psycopg:// PGHOST"])
def test_suggested_line_keeps_current_entries(
    shop: Project, developer: DeveloperDatabase, entries: Optional[str], workers: str
) -> None:
    shop.file("app.py", OTHER_NAME)
    url = developer.url("postgresql+psycopg")
    shop.environment.update(DATABASE_URL=url, DB_DSN=url)
    shop.settings.pop("pgdibs_env")
    if entries is not None:
        shop.settings["pgdibs_env"] = entries
    developer.assert_stopped(
        shop.run(workers),
        f"DB_DSN names this database and is not in pgdibs_env; add it: pgdibs_env = {entries or 'DATABASE_URL'} DB_DSN.",
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("PGDATABASE", {"PGHOST": "PGHOST", "PGDATABASE": "PGDATABASE"}),
        ("POSTGRES_DB", {"POSTGRES_PORT": "POSTGRES_PORT=default.port", "POSTGRES_DB": "POSTGRES_DB=default.database"}),
        ("db_name", {"db_password": "db_password=default.password", "db_name": "db_name=default.database"}),
        ("DBNAME", {"DBNAME": "DBNAME=default.database"}),
    ],
)
def test_parts_beside_database_name(name: str, entries: dict[str, str]) -> None:
    assert entries.items() <= parts_beside(name).items()
