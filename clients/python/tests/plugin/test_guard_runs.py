"""How a run ends after a stopped connection, and the settings that allow connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from developers import PASSWORD, WRITES, DeveloperDatabase, without_guard
from projects import Daemon, Project, Ran

pytestmark = pytest.mark.shared_pool

WRITE = f"with psycopg.connect(URL) as connection: connection.execute({WRITES!r})"


@pytest.fixture
def strange(project: Project, developer: DeveloperDatabase) -> Project:
    """A project whose module `strange` writes to the developer's database."""
    project.file("strange.py", f"import psycopg\nURL = '{developer.url()}'\ndef write():\n    {WRITE}\n")
    project.settings["pythonpath"] = "."
    return project


# Error handling of applications that hides the exception from the test.
SWALLOWS = """
import asyncio, concurrent.futures, threading, psycopg, pytest, strange

def retried():
    for attempt in range(3):
        try:
            return strange.write()
        except psycopg.OperationalError:
            pass

def test_bare_except():
    try:
        retried()
    except:
        pass

def test_thread():
    thread = threading.Thread(target=retried)
    thread.start()
    thread.join()

def test_executor():
    with concurrent.futures.ThreadPoolExecutor() as executor:
        executor.submit(retried)

def test_task_that_is_not_awaited():
    async def main():
        asyncio.get_running_loop().run_in_executor(None, retried)
        await asyncio.gather(asyncio.to_thread(retried), return_exceptions=True)
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("test", "workers"),
    [
        ("bare_except", "-n2"),
        ("task_that_is_not_awaited", "-n0"),
        *(
            pytest.param(test, workers, marks=pytest.mark.long)
            for test, workers in (("bare_except", "-n0"), ("thread", "-n2"), ("executor", "-n0"), ("executor", "-n2"))
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_swallowed_exception_ends_the_run(strange: Project, developer: DeveloperDatabase, test: str, workers: str) -> None:
    strange.file("test_it.py", f"{SWALLOWS}\n@pytest.mark.parametrize('number', range(50))\ndef test_rest(number):\n    pass\n")
    ran = strange.run(workers, "-p", "no:threadexception", "-k", f"{test} or rest")
    developer.assert_stopped(ran, "by psycopg opened at strange.py:4", "strange.py:2 names this database")
    assert ran.counted("passed") < 51


IMPORTS = {
    "conftest.py": "import strange\nstrange.write()\n",
    "tests/conftest.py": "import strange\nstrange.write()\n",
    "test_a.py": "import strange\nstrange.write()\ndef test_it():\n    pass\n",
}
SWALLOWING = "import strange\ntry:\n    strange.write()\nexcept BaseException:\n    pass\n"


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("conftest.py", ["-n2"]),
        ("test_a.py", ["-n0"]),
        *(
            pytest.param(file, [arguments], marks=pytest.mark.long)
            for file, arguments in (
                ("conftest.py", "-n0"),
                ("conftest.py", "--collect-only"),
                ("tests/conftest.py", "-n0"),
                ("tests/conftest.py", "-n2"),
                ("tests/conftest.py", "--collect-only"),
                ("test_a.py", "-n2"),
                ("test_a.py", "--collect-only"),
            )
        ),
    ],
)
def test_connection_at_import_is_one_error(
    strange: Project, developer: DeveloperDatabase, file: str, arguments: list[str]
) -> None:
    strange.file(file, IMPORTS[file])
    for number in range(20):
        strange.file(f"tests/test_{number}.py", "import strange\nstrange.write()\ndef test_it():\n    pass\n")
    ran = strange.run(*arguments)
    developer.assert_stopped(ran, "opened at strange.py:4")
    assert ran.output.count("stopped a connection") <= 2, ran.output


@pytest.mark.long
@pytest.mark.parametrize("arguments", [pytest.param(["-n0"], marks=pytest.mark.long), ["-n2"], ["--collect-only"]], ids=" ".join)
def test_swallowed_exception_at_import_ends_the_run(strange: Project, developer: DeveloperDatabase, arguments: list[str]) -> None:
    strange.file("conftest.py", SWALLOWING)
    strange.file("test_it.py", "def test_it():\n    pass\n")
    ran = strange.run(*arguments)
    developer.assert_stopped(ran, "opened at strange.py:4")
    if arguments != ["-n0"]:
        assert "so it has no database" in ran.errors[0]


@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "hook",
    [
        "pytest_configure",
        "pytest_sessionfinish",
        *(pytest.param(hook, marks=pytest.mark.long) for hook in ("pytest_sessionstart", "pytest_collection_modifyitems")),
    ],
)
def test_connection_in_a_hook_ends_the_run(strange: Project, developer: DeveloperDatabase, hook: str, workers: str) -> None:
    strange.file("conftest.py", f"import strange\ndef {hook}():\n    strange.write()\n")
    strange.file("test_it.py", "def test_it():\n    pass\n")
    developer.assert_stopped(strange.run(workers), "opened at strange.py:4")


LATE_IN_A_WORKER = """
import os, strange
def pytest_sessionfinish():
    if "PYTEST_XDIST_WORKER" in os.environ:
        BODY
"""
SWALLOWED = """try:
            strange.write()
        except BaseException:
            pass"""


@pytest.mark.parametrize(
    "body", [pytest.param("strange.write()", marks=pytest.mark.long), SWALLOWED], ids=["raised", "swallowed"]
)
def test_connection_in_sessionfinish_of_worker_ends_run(strange: Project, developer: DeveloperDatabase, body: str) -> None:
    strange.file("conftest.py", LATE_IN_A_WORKER.replace("BODY", body))
    strange.file("test_it.py", "def test_it():\n    pass\n")
    developer.assert_stopped(strange.run("-n2"), "by psycopg opened at strange.py:4")


# When this hook runs, the controller takes no more output of the worker.
UNCONFIGURES = """
import os, strange
def pytest_unconfigure():
    if "PYTEST_XDIST_WORKER" in os.environ:
        try:
            strange.write()
        except BaseException:
            open("stopped", "w").close()
            raise
"""


def test_connection_in_unconfigure_of_worker_is_printed(strange: Project, developer: DeveloperDatabase) -> None:
    strange.file("conftest.py", UNCONFIGURES)
    strange.file("test_it.py", "def test_it():\n    pass\n")
    ran = strange.run("-n1")
    developer.assert_untouched()
    assert (strange.pytester.path / "stopped").exists()
    (error,) = ran.errors
    assert error.startswith("ERROR: pgdibs: stopped a connection by psycopg opened at strange.py:4 to database shop_dev"), (
        ran.output
    )


def test_builder_may_connect_to_its_database_only(strange: Project, developer: DeveloperDatabase) -> None:
    strange.settings["pgdibs_build"] = ""
    strange.file("test_it.py", "def test_it():\n    pass\n")
    build = "def pytest_pgdibs_build_template(url):\n    psycopg.connect(url).close()"
    strange.file("conftest.py", f"import psycopg, strange\n{build}\n    strange.write()\n")
    ran = strange.run()
    developer.assert_stopped(ran, "this is the process that builds the template; it may use the template's own database only")
    strange.file("conftest.py", f"import psycopg, strange\n{build}\n    return True\n")
    strange.run().assert_passed(1)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n0", *(pytest.param(each, marks=pytest.mark.long) for each in ("-n2", "--pgdibs=off"))])
def test_header_names_weaker_guard_mode(project: Project, workers: str) -> None:
    project.file("test_it.py", "def test_it():\n    pass\n")
    assert "connection guard" not in project.run(workers).output
    project.settings["pgdibs_guard"] = "warn"
    assert_in_header(project.run(workers), "; connection guard only warns (pgdibs_guard in the ini file)")
    project.environment["PGDIBS_GUARD"] = "off"
    assert_in_header(project.run(workers), "; connection guard off (PGDIBS_GUARD)")


def assert_in_header(ran: Ran, end: str) -> None:
    """Assert that the first line of pgdibs in the header ends with this text."""
    line = next(line for line in ran.output.splitlines() if line.startswith("pgdibs: "))
    assert line.endswith(end), ran.output


@pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])
def test_warn_mode_warns_once_per_target(strange: Project, developer: DeveloperDatabase, workers: str) -> None:
    strange.settings["pgdibs_guard"] = "warn"
    strange.settings["filterwarnings"] = "error"
    strange.file("test_it.py", "import strange\ndef test_it():\n    strange.write()\n    strange.write()\n")
    ran = strange.run(workers)
    ran.assert_passed(1)
    developer.assert_written()
    assert ran.output.count("pgdibs: stopped a connection") == 0
    assert ran.output.count("pgdibs: a connection by psycopg opened at strange.py:4 to database") == 1
    assert PASSWORD not in ran.output


def test_pgdibs_allow_lets_matching_targets_pass(strange: Project, developer: DeveloperDatabase) -> None:
    strange.file("test_it.py", "import strange\ndef test_it():\n    strange.write()\n")
    for number, entry in enumerate(["localhost:*/shop_d?v", f"127.0.0.1:{developer.server.port}/{developer.name}"]):
        strange.settings["pgdibs_allow"] = f"other:1/x {entry}"
        strange.run().assert_passed(1)
        developer.assert_written()
        assert number < 2
    # Host, port and database must all match.
    others = f"localhost:1/shop_* other:*/shop_* 127.0.0.1:{developer.server.port}/shop"
    strange.settings["pgdibs_allow"] = others
    assert strange.run().status == 4


@pytest.mark.long
def test_invalid_guard_settings_are_refused(strange: Project, developer: DeveloperDatabase) -> None:
    strange.file("test_it.py", "def test_it():\n    pass\n")
    strange.settings["pgdibs_allow"] = "shop_dev"
    (error,) = strange.run().errors
    assert error.startswith("ERROR: pgdibs: pgdibs_allow in the ini file: `shop_dev` is not HOST:PORT/DATABASE; each part may")
    strange.settings["pgdibs_allow"] = ""
    (error,) = strange.run("--pgdibs-guard=maybe").errors
    assert error == "ERROR: pgdibs: --pgdibs-guard is `maybe`; it has to be `error` or `warn` or `off`"
    strange.environment["PGDIBS_GUARD"] = "off"
    strange.file("test_it.py", "import strange\ndef test_it():\n    strange.write()\n")
    strange.run("-n2").assert_passed(1)
    developer.assert_written()


def test_guard_is_removed_when_pytest_main_returns(strange: Project, developer: DeveloperDatabase) -> None:
    strange.file("test_it.py", "import strange\ndef test_it():\n    strange.write()\n")
    strange.file(
        "twice.py",
        """
import sys, pytest, psycopg, psycopg2, sqlalchemy, strange
finders, insides = list(sys.meta_path), [psycopg.Connection._connect_gen, psycopg2._connect]
assert pytest.main(["-p", "pgdibs.pytest_plugin", "-p", "no:cacheprovider"]) == 4
assert [type(finder) for finder in sys.meta_path] == [type(finder) for finder in finders]
assert insides == [psycopg.Connection._connect_gen, psycopg2._connect]
strange.write()
sqlalchemy.create_engine(strange.URL.replace("postgresql", "postgresql+psycopg")).connect().close()
open("done", "w").write("done")
""",
    )
    strange.file(
        "test_outer.py", "import subprocess, sys\ndef test_it():\n    subprocess.run([sys.executable, 'twice.py'], check=True)\n"
    )
    strange.run("test_outer.py").assert_passed(1)
    assert strange.text("done") == "done"
    developer.assert_written()


@pytest.fixture
def shared(developer: DeveloperDatabase) -> Iterator[Daemon]:
    """A daemon whose databases are on the developer's own server."""
    developer.has_leases = True
    daemon = Daemon(server_url=developer.server.url("postgres"))
    yield daemon
    daemon.remove()


def test_developers_database_on_same_server_is_stopped(
    pytester: pytest.Pytester, developer: DeveloperDatabase, shared: Daemon
) -> None:
    project = Project(pytester, shared, "same_server")
    project.client.put_pool("same_server", warm=1, spares=0, max=4)
    project.file("strange.py", f"import psycopg\nURL = '{developer.url()}'\ndef write():\n    {WRITE}\n")
    project.file("test_it.py", "import strange\ndef test_it(pgdibs_url):\n    strange.write()\n")
    ran = project.run()
    developer.assert_stopped(ran, f"it should have been same_server_gw0 on 127.0.0.1:{developer.server.port}")
    without_guard(project, developer).assert_passed(1)
