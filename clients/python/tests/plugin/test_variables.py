"""The variables before the import of conftest.py, in each kind of process."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from projects import Project, section_of

from pgdibs.plugin.variables import Variable

CONFTEST = """
import json, os, pathlib
NAMES = ["DATABASE_URL", "TEST_DATABASE_URL", "STATS_URL", "DB_HOST", "PGPORT", "PGDATABASE", "PGDIBS_SLOT"]
who = os.environ.get("PYTEST_XDIST_WORKER", "main")
pathlib.Path(f"seen-{who}.json").write_text(json.dumps({name: os.environ.get(name) for name in NAMES}))
"""
TESTS = """
import os, psycopg, pytest
@pytest.mark.parametrize("number", range(8))
def test_leased(number, pgdibs_lease, tmp_path):
    with psycopg.connect(pgdibs_lease.url) as connection:
        assert connection.execute("select current_database()").fetchone() == (os.environ["PGDATABASE"],)
"""
REAL = "postgresql+asyncpg://me:secret@production.example/shop?ssl=prefer"


@pytest.fixture
def variables(project: Project) -> Project:
    """A project with all kinds of variables for two aliases; one variable has a production URL."""
    project.settings["pgdibs_env"] = (
        "DATABASE_URL TEST_DATABASE_URL STATS_URL=stats=postgres://?timeout=5 DB_HOST=default.host PGPORT PGDATABASE"
    )
    project.settings["pgdibs_aliases"] = "stats"
    project.environment.update(DATABASE_URL=REAL, TEST_DATABASE_URL="postgresql+psycopg://x/y?application_name=tests")
    project.file("conftest.py", CONFTEST)
    project.file("test_it.py", TESTS)
    return project


def seen(project: Project, who: str) -> dict[str, Any]:
    """The variables that conftest.py saw in that process."""
    found: dict[str, Any] = json.loads(project.text(f"seen-{who}.json"))
    return found


def assert_is_leased(project: Project, found: dict[str, Any]) -> None:
    """Assert that all variables name the databases of one process; each URL keeps its driver and query."""
    url, other, stats = (urlsplit(found[name]) for name in ("DATABASE_URL", "TEST_DATABASE_URL", "STATS_URL"))
    assert (url.scheme, url.query) == ("postgresql+asyncpg", "ssl=prefer")
    assert (other.scheme, other.query) == ("postgresql+psycopg", "application_name=tests")
    assert (stats.scheme, stats.query) == ("postgres", "timeout=5")
    assert (url.netloc, url.path) == (other.netloc, other.path)
    assert stats.path != url.path
    assert {url.path.rpartition("_")[0], stats.path.rpartition("_")[0]} == {f"/{project.pool}"}
    assert (found["PGDATABASE"], found["DB_HOST"], found["PGPORT"]) == (url.path[1:], url.hostname, str(url.port))
    assert found["PGDIBS_SLOT"] == url.path.rpartition("_gw")[2]


def assert_is_unavailable(found: dict[str, Any]) -> None:
    """Assert that the URLs keep drivers and queries, and name no server that exists."""
    assert (urlsplit(found["DATABASE_URL"]).scheme, urlsplit(found["DATABASE_URL"]).query) == ("postgresql+asyncpg", "ssl=prefer")
    assert "production.example" not in str(found)
    assert "only-test-processes-have-a-database" in found["STATS_URL"]
    assert (found["PGDIBS_SLOT"], found["PGPORT"]) == (None, "1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(found["STATS_URL"].partition("?")[0])


@pytest.mark.parametrize(
    "arguments",
    [["-n2"], pytest.param(["--dist", "loadfile", "--tx", "2*popen"], marks=pytest.mark.long)],
    ids=["-n", "--tx"],
)
def test_xdist_workers_have_databases_and_controller_none(variables: Project, arguments: list[str]) -> None:
    variables.run(*arguments).assert_passed(8)
    assert_is_unavailable(seen(variables, "main"))
    workers = [seen(variables, who) for who in ("gw0", "gw1")]
    for found in workers:
        assert_is_leased(variables, found)
    assert len({found["DATABASE_URL"] for found in workers} | {found["STATS_URL"] for found in workers}) == 4


@pytest.mark.parametrize(
    "arguments", [pytest.param(["-n0"], marks=pytest.mark.long), ["-p", "no:xdist"]], ids=["-n0", "no xdist"]
)
def test_process_without_workers_has_a_database(variables: Project, arguments: list[str]) -> None:
    plugins = ["-p", "pgdibs.pytest_plugin"] if "-p" in arguments else None
    variables.run(*arguments, plugins=plugins).assert_passed(8)
    assert_is_leased(variables, seen(variables, "main"))


def test_plugin_loads_by_its_entry_point(variables: Project) -> None:
    del variables.environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
    variables.run("-n1", "-p", "no:asyncio", plugins=[]).assert_passed(8)
    assert_is_leased(variables, seen(variables, "gw0"))


@pytest.mark.long
def test_required_plugins_refuses_a_run_without_the_plugin(variables: Project) -> None:
    del variables.environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
    variables.settings = {"required_plugins": "pgdibs"}
    ran = variables.run("-p", "no:pgdibs", "-p", "no:asyncio", plugins=[])
    assert ran.status == 4, ran.output
    assert "ERROR: Missing required plugins: pgdibs" in ran.output
    loaded = variables.run("--collect-only", "-p", "no:asyncio", plugins=[])
    assert loaded.status == 0, loaded.output


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    [
        ["--collect-only", "-n2"],
        ["--help"],
        ["--setup-plan"],
        *(
            pytest.param([option], marks=pytest.mark.long)
            for option in ("--fixtures", "--markers", "--fixtures-per-test", "--version")
        ),
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_process_without_tests_takes_no_lease(variables: Project, arguments: list[str]) -> None:
    variables.environment["PGDIBS_URL"] = "http://127.0.0.1:1"
    ran = variables.run(*arguments)
    assert ran.status == 0, ran.output
    assert ran.errors == []
    if arguments != ["--version"]:
        assert_is_unavailable(seen(variables, "main"))


@pytest.mark.long
def test_nested_pytest_has_its_own_database(project: Project) -> None:
    inner = project.pytester.mkdir("inner")
    (inner / "test_inner.py").write_text("import os\ndef test_it():\n    open('url', 'w').write(os.environ['DATABASE_URL'])\n")
    project.file(
        "test_it.py",
        """
import os, pathlib, subprocess, sys
def test_it():
    command = [sys.executable, "-m", "pytest", "-p", "pgdibs.pytest_plugin", "-c", "pytest.ini", "--rootdir", ".", "inner"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout
    assert pathlib.Path("url").read_text() != os.environ["DATABASE_URL"]
""",
    )
    project.run("-n1", "test_it.py").assert_passed(1)


def test_lease_without_variables_is_taken_on_demand(project: Project) -> None:
    project.settings["pgdibs_env"] = ""
    project.file("test_none.py", "def test_none():\n    pass\n")
    project.file("test_one.py", "def test_one(pgdibs_url):\n    assert pgdibs_url.startswith('postgresql://')\n")
    ran = project.run("-n2", "--dist=loadfile")
    ran.assert_passed(2)
    assert "1 database leased by 1 worker, " in ran.output
    project.environment["PGDIBS_URL"] = "http://127.0.0.1:1"
    project.run("test_none.py").assert_passed(1)
    ran = project.run()
    assert (ran.status, ran.counted("error"), "another exception" in ran.output) == (2, 1, False)
    assert "! Interrupted: pgdibs: no pgdibs daemon answers at http://127.0.0.1:1" in ran.output
    assert f"no lease was taken although pgdibs_pool = {project.pool}: the run ended before one came\n" in ran.output


def test_forms_of_page_are_valid() -> None:
    (line,) = re.findall(r"^pgdibs_env = (.*)$", section_of("python/variables.md", ""), re.MULTILINE)
    table = re.findall(r"^\| `(\S+)` \|", section_of("python/variables.md", "Forms of an entry"), re.MULTILINE)
    parsed = {entry: Variable.parse(entry) for entry in [*line.split(), *table] if entry != "PG*"}
    assert len(table) == 6
    assert parsed["DB_HOST=default.host"].part == parsed["PGHOST"].part == "host"
    assert parsed["STATS_URL=stats"].alias == "stats"
