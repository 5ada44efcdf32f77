"""The connection guard after the run: code that runs until the process ends reaches no database of the developer."""

from __future__ import annotations

import pytest
from developers import WRITES, DeveloperDatabase, without_guard
from projects import Project

pytestmark = pytest.mark.shared_pool

# Connects by the variable, and by the URL itself.
CLEANUP = f"""
import atexit, os, threading, psycopg
URL = "THE_URL"
def write(url):
    with psycopg.connect(url) as connection:
        connection.execute({WRITES!r})
def cleanup():
    for url in (os.environ["DATABASE_URL"], URL):
        try:
            write(url)
        except BaseException as error:
            with open("stopped", "a") as stopped:
                stopped.write(f"{{type(error).__name__}} {{os.environ.get('PYTEST_XDIST_WORKER')}}\\n")
"""
AT_EXIT = "atexit.register(cleanup)\n"
# Waits for the end of the main thread, and so of pytest.
THREAD = """
def outlive():
    threading.main_thread().join()
    cleanup()
threading.Thread(target=outlive).start()
"""
TEST = "def test_it():\n    pass\n"


@pytest.mark.parametrize(
    ("file", "register", "workers"),
    [
        ("test_it.py", AT_EXIT, "-n0"),
        pytest.param("conftest.py", AT_EXIT, "-n2", marks=pytest.mark.long),
        pytest.param("test_it.py", THREAD, "-n0", marks=pytest.mark.long),
    ],
    ids=["atexit in a test module", "atexit in conftest under xdist", "thread"],
)
def test_connection_after_the_run_is_stopped(
    project: Project, developer: DeveloperDatabase, file: str, register: str, workers: str
) -> None:
    project.environment["DATABASE_URL"] = developer.url()
    project.file("test_it.py", TEST)
    project.file(file, CLEANUP.replace("THE_URL", developer.url()) + register + TEST)
    ran = project.run(workers)
    ran.assert_passed(1)
    developer.assert_untouched()
    # The server of the unavailable variable refuses the first connection; the guard stops the second one.
    assert project.text("stopped").count("OperationalError None\nStoppedInTest None\n") == 1, project.text("stopped")
    assert f"ERROR: pgdibs: stopped a connection by psycopg opened at {file}:5 to {developer.place}, which" in ran.output
    assert "this is a process whose run has ended, so it has no database. An `atexit` function, or a thread" in ran.output
    without_guard(project, developer, workers)


def test_variables_are_unavailable_after_the_run_without_guard(project: Project, developer: DeveloperDatabase) -> None:
    project.environment["DATABASE_URL"] = developer.url()
    project.settings["pgdibs_guard"] = "off"
    project.file("test_it.py", CLEANUP.replace("THE_URL", "postgresql://127.0.0.1:1/none") + AT_EXIT + TEST)
    project.run().assert_passed(1)
    developer.assert_untouched()
    assert project.text("stopped") == "OperationalError None\n" * 2


def test_nested_pytest_main_leaves_no_guard(project: Project, developer: DeveloperDatabase) -> None:
    project.environment["DATABASE_URL"] = developer.url()
    project.file("inner/test_inner.py", TEST)
    project.file(
        "test_it.py",
        f"""
import os, psycopg, pytest
def test_outer():
    arguments = ["-p", "pgdibs.pytest_plugin", "-p", "no:cacheprovider", "--pgdibs-pool", "{project.pool}", "inner"]
    before = os.environ["DATABASE_URL"]
    assert pytest.main(arguments) == 0
    assert os.environ["DATABASE_URL"] == before
    with psycopg.connect(before) as connection:
        connection.execute({WRITES!r})
""",
    )
    project.settings.pop("pgdibs_pool")
    # The outer run has no plugin.
    project.run("test_it.py", plugins=["-p", "xdist"]).assert_passed(1)
    developer.assert_written()
