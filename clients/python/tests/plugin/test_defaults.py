"""Variables without `pgdibs_env`: DATABASE_URL, TEST_DATABASE_URL if in use, no URLs of other engines; and `--pgdibs=off`."""

from __future__ import annotations

import pytest
from developers import PASSWORD, WRITES, DeveloperDatabase
from projects import Project

SERIAL = pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])

# A typical application: settings from the environment, else from `.env`, at import.
APPLICATION = f"""
import pydantic_settings
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

class Settings(pydantic_settings.BaseSettings):
    model_config = pydantic_settings.SettingsConfigDict(env_file=".env")
    database_url: str

engine = create_async_engine(Settings().database_url, poolclass=NullPool)

async def write():
    async with engine.begin() as connection:
        await connection.execute(text({WRITES!r}))
        return await connection.scalar(text("select current_database()"))
"""
TESTS = """
import asyncio, application, pytest

@pytest.mark.parametrize("number", range(10))
def test_writes(number):
    assert application.engine.driver == "asyncpg"
    database = asyncio.run(application.write())
    with open("databases", "a") as file:
        file.write(database + "\\n")
"""


def unset_default(project: Project) -> Project:
    """The project without a line `pgdibs_env`."""
    del project.settings["pgdibs_env"]
    project.settings["pythonpath"] = "."
    return project


@SERIAL
def test_application_with_env_file_uses_its_lease(project: Project, developer: DeveloperDatabase, workers: str) -> None:
    unset_default(project)
    project.file(".env", f'# of the developer\nexport DATABASE_URL="{developer.url("postgresql+asyncpg")}"\n')
    project.file("application.py", APPLICATION)
    project.file("conftest.py", "import application\n")
    project.file("test_it.py", TESTS)
    ran = project.run(workers)
    ran.assert_passed(10)
    developer.assert_untouched()
    databases = project.text("databases").split()
    assert len(databases) == 10
    assert {name.rpartition("_gw")[0] for name in databases} == {project.pool}
    assert PASSWORD not in ran.output


SEEN = """
import json, os, pathlib
who = os.environ.get("PYTEST_XDIST_WORKER", "main")
names = ["DATABASE_URL", "TEST_DATABASE_URL", "PGDIBS_EXPORTED"]
pathlib.Path(f"seen-{who}.txt").write_text("".join(f"{name}={os.environ.get(name)}\\n" for name in names))
"""


def seen(project: Project, who: str = "main") -> dict[str, str]:
    """The variables that conftest.py saw in that process: scheme and `lease` or `unavailable`, or the value."""
    found = dict(line.split("=", 1) for line in project.text(f"seen-{who}.txt").splitlines())
    for name, value in found.items():
        if f"/{project.pool}_gw" in value:
            found[name] = f"{value.partition('://')[0]} lease"
        elif "only-test-processes-have-a-database" in value:
            found[name] = f"{value.partition('://')[0]} unavailable"
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("files", "environment", "database_url", "test_database_url"),
    [
        ({}, {}, "postgresql lease", "None"),
        ({}, {"TEST_DATABASE_URL": "postgresql+psycopg://me@real.example/real"}, "postgresql lease", "postgresql+psycopg lease"),
        ({".env.test": "TEST_DATABASE_URL=postgres://real.example/t"}, {}, "postgresql lease", "postgres lease"),
        ({}, {"DATABASE_URL": "", "TEST_DATABASE_URL": ""}, "postgresql lease", "postgresql lease"),
        ({}, {"DATABASE_URL": "host=real.example dbname=real"}, "postgresql lease", "None"),
        ({".env": "DATABASE_URL=sqlite:///dev.db"}, {"DATABASE_URL": "postgresql://real.example/r"}, "postgresql lease", "None"),
        # An application may read either file.
        ({".env": "DATABASE_URL=postgresql://a/b", ".env.test": "DATABASE_URL=sqlite://"}, {}, "postgresql lease", "None"),
    ],
    ids=["unset", "test variable", "in .env.test", "empty", "conninfo", "environment before .env", "one file of two"],
)
def test_postgres_variable_is_set_by_default(
    project: Project, files: dict[str, str], environment: dict[str, str], database_url: str, test_database_url: str
) -> None:
    unset_default(project)
    for name, text in files.items():
        project.file(name, text)
    project.environment.update(environment)
    project.file("conftest.py", SEEN)
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    ran = project.run()
    ran.assert_passed(1)
    found = seen(project)
    assert (found["DATABASE_URL"], found["TEST_DATABASE_URL"]) == (database_url, test_database_url)
    names = {name for name in ("DATABASE_URL", "TEST_DATABASE_URL") if found[name] != "None"}
    assert set(found["PGDIBS_EXPORTED"].split(",")) == names
    assert "left alone" not in ran.output


@SERIAL
def test_url_of_another_engine_is_kept(project: Project, workers: str) -> None:
    unset_default(project)
    project.environment["DATABASE_URL"] = "sqlite+aiosqlite:///secret-place.db"
    project.file(".env", "TEST_DATABASE_URL=mysql://me:secret-word@real.example/real\n")
    project.file("conftest.py", SEEN)
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    ran = project.run(workers)
    ran.assert_passed(1)
    for name, scheme in (("DATABASE_URL", "sqlite+aiosqlite"), ("TEST_DATABASE_URL", "mysql")):
        line = f"pgdibs: {name} is left alone: its URL is one of {scheme}, not of Postgres (`pgdibs_env = {name}` sets it"
        assert ran.output.count(line) == 1, ran.output
    assert "secret-word" not in ran.output
    for who in ("main",) if workers == "-n0" else ("main", "gw0", "gw1"):
        found = seen(project, who)
        assert (found["DATABASE_URL"], found["TEST_DATABASE_URL"]) == ("sqlite+aiosqlite:///secret-place.db", "None")
    assert f"no lease was taken although pgdibs_pool = {project.pool}" in ran.output
    project.settings["pgdibs_env"] = "DATABASE_URL"
    assert "left alone" not in project.run(workers).output
    assert seen(project, "main" if workers == "-n0" else "gw0")["DATABASE_URL"] == "postgresql lease"


INI_FILES = {
    "pytest.ini": ("[pytest]\n", "{name} = {value}\n", "pgdibs_env =\n"),
    "tox.ini": ("[pytest]\n", "{name} = {value}\n", "pgdibs_env =\n"),
    "setup.cfg": ("[tool:pytest]\n", "{name} = {value}\n", "pgdibs_env =\n"),
    "pyproject.toml": ("[tool.pytest.ini_options]\n", "{name} = '{value}'\n", "pgdibs_env = []\n"),
    "pyproject.toml, text": ("[tool.pytest.ini_options]\n", "{name} = '{value}'\n", "pgdibs_env = ''\n"),
}
if int(pytest.__version__.partition(".")[0]) >= 9:
    INI_FILES["pyproject.toml, native"] = ("[tool.pytest]\n", "{name} = '{value}'\n", "pgdibs_env = []\n")
    INI_FILES["pytest.toml"] = ("[pytest]\n", "{name} = '{value}'\n", "pgdibs_env = []\n")


@pytest.mark.parametrize(
    "file", [pytest.param(file, marks=[] if file == "pytest.ini" else pytest.mark.long) for file in (*INI_FILES, "-o")]
)
def test_pgdibs_env_empty_or_absent(project: Project, file: str) -> None:
    head, line, empty = INI_FILES["pytest.ini" if file == "-o" else file]
    project.file("conftest.py", SEEN)
    path = project.pytester.path / ("pytest.ini" if file == "-o" else file.partition(",")[0])
    arguments = ["--collect-only", "-q", "-c", str(path)]
    for is_empty in (False, True):
        path.write_text(head + line.format(name="pgdibs_pool", value=project.pool) + (empty if is_empty and file != "-o" else ""))
        project.run_as_written(*arguments, *(["-o", "pgdibs_env="] if is_empty and file == "-o" else []))
        found = seen(project)
        assert found["DATABASE_URL"] == ("None" if is_empty else "postgresql unavailable")
        assert found["PGDIBS_EXPORTED"] == ("None" if is_empty else "DATABASE_URL")


@SERIAL
def test_off_leases_nothing_and_makes_variables_unavailable(project: Project, developer: DeveloperDatabase, workers: str) -> None:
    unset_default(project)
    project.environment["PGDIBS_URL"] = "http://127.0.0.1:1"
    project.environment["DATABASE_URL"] = developer.url("postgresql+asyncpg")
    project.file("application.py", APPLICATION)
    project.file("conftest.py", SEEN)
    project.file("test_it.py", TESTS + "def test_without_database():\n    pass\ndef test_asks(pgdibs_url):\n    pass\n")
    ran = project.run(workers, "--pgdibs=off")
    assert (ran.status, ran.counted("passed"), ran.counted("failed"), ran.counted("error")) == (1, 1, 10, 1), ran.output
    assert "pgdibs: off (--pgdibs=off), no database is leased; set to a server that does not exist: DATABASE_URL\n" in ran.output
    assert "pgdibs: this needs a lease, and with --pgdibs=off there is none" in ran.output
    assert "the run took" not in ran.output
    developer.assert_untouched()
    for who in ("main",) if workers == "-n0" else ("main", "gw0", "gw1"):
        assert seen(project, who)["DATABASE_URL"] == "postgresql+asyncpg unavailable"
    assert project.client.leases(pool=project.pool, state="all") == []


@pytest.mark.long
def test_off_without_a_pool_does_nothing(project: Project) -> None:
    project.settings = {}
    project.file("conftest.py", SEEN)
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    ran = project.run("--pgdibs=off")
    ran.assert_passed(1)
    assert "pgdibs:" not in ran.output
    assert seen(project)["DATABASE_URL"] == "None"
