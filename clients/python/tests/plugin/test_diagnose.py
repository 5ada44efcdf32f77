"""`pgdibs diagnose`: what it measures, that it leaves the files alone, what it says about commands that it cannot measure."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from projects import Daemon, DaemonProcess, Project, eventually, free_port

NO_DAEMON = "http://127.0.0.1:1"
PYTEST = [sys.executable, "-m", "pytest"]
TESTS = """
import os

def writes():
    import psycopg
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("create table if not exists diagnosed (id int)")
        assert connection.execute("select current_database()").fetchone()[0].startswith("diagnose_")

def test_one(database_schema): writes()
def test_two(database_schema): writes()
def test_three(): assert os.environ["ANALYTICS_URL"].endswith("@127.0.0.1:1/none")
"""
CONFTEST = """
import time
import slow_module
import pytest

@pytest.fixture(scope="session")
def database_schema():
    time.sleep(0.05)  # stands for the work of a migration
"""


class Diagnosed:
    """The result of a `pgdibs diagnose --output json`."""

    def __init__(self, status: int, output: str, errors: str) -> None:
        print(output, errors, sep="\n")
        self.status = status
        self.errors = errors
        self.document: dict[str, Any] = json.loads(output) if output else {}

    def not_seen(self, what: str) -> str:
        """Why something was not seen; empty if it was seen."""
        return next((found["why"] for found in self.document["not_seen"] if found["what"] == what), "")

    def runs(self, phase: str) -> list[float]:
        """The seconds of all runs of a phase."""
        found: list[float] = self.document["phases"][phase]["runs"]
        return found


class Diagnosis:
    """Runs `pgdibs diagnose` in a directory, with an environment that has no settings but these."""

    def __init__(self, directory: Path, daemon: Daemon) -> None:
        self.directory = directory
        self.program = daemon.program
        self.url = NO_DAEMON
        self.environment: dict[str, str] = {}

    def file(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(
        self, *arguments: str, command: Optional[list[str]] = None, before: Optional[Callable[[], None]] = None
    ) -> subprocess.Popen[str]:
        """Start it; `before` runs in the new process, which is the leader of a session."""
        # With PYTHONDONTWRITEBYTECODE Python would leave the tree alone whatever diagnose does.
        foreign = ("PGDIBS_", "PYTEST_", "PG", "PYTHON")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        environment.update(PGDIBS_URL=self.url, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **self.environment)
        words = [self.program, "diagnose", "--output", "json", *arguments, "--", *(command or PYTEST)]
        return subprocess.Popen(
            words,
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=before,
        )

    def run(self, *arguments: str, command: Optional[list[str]] = None, before: Optional[Callable[[], None]] = None) -> Diagnosed:
        """Run it, with one run of everything."""
        process = self.start("--runs", "1", *arguments, command=command, before=before)
        output, errors = process.communicate(timeout=300)
        return Diagnosed(process.returncode, output, errors)


@pytest.fixture
def diagnosis(tmp_path: Path, daemon: Daemon) -> Diagnosis:
    """A project without files, and no daemon."""
    return Diagnosis(tmp_path, daemon)


def test_diagnosis_on_leases_names_the_slow_import_and_changes_no_file(diagnosis: Diagnosis, project: Project) -> None:
    diagnosis.url = project.daemon.url
    # A developer's database, which no run may reach; nothing listens on port 9.
    diagnosis.environment = {
        "DATABASE_URL": "postgresql://me@127.0.0.1:9/dev",
        "ANALYTICS_URL": "postgresql://me@127.0.0.1:9/dev",
    }
    diagnosis.file("slow_module.py", "import time\ntime.sleep(0.5)\n")
    diagnosis.file("tests/conftest.py", CONFTEST)
    diagnosis.file("tests/test_a.py", TESTS)
    diagnosis.file("pytest.ini", "[pytest]\npythonpath = .\naddopts = --junitxml=junit.xml\n")
    before = sorted(diagnosis.directory.rglob("*"))
    page, summary = diagnosis.directory.parent / "page.html", diagnosis.directory.parent / "summary.md"
    diagnosis.environment["GITHUB_STEP_SUMMARY"] = str(summary)
    command = [*PYTEST, "-p", "xdist", "-p", "pgdibs.pytest_plugin", "tests"]
    diagnosed = diagnosis.run("--html", str(page), command=command)
    document = diagnosed.document
    assert (diagnosed.status, document["not_seen"], document["tests"]) == (0, [], 3)
    imported = document["imports"][0]
    assert (imported["file"], imported["line"], imported["what"]) == ("tests/conftest.py", 3, "slow_module")
    assert document["levers"][0]["text"].startswith("tests/conftest.py:3 imports slow_module: 0.5")
    assert all(len(diagnosed.runs(phase)) == 1 for phase in ("start_up", "interpreter", "pytest", "conftest", "collection"))
    assert {"slow_module", "_pytest"} <= {package["name"] for package in document["packages"]}
    assert [one["processes"] for one in document["at_once"]][:3] == [0, 1, 2]
    assert document["durations"]["known"] == 3
    assert [fixture["name"] for fixture in document["database"]["fixtures"]] == ["database_schema"]
    assert document["database"]["lease"]["median"] > 0
    layouts = document["layouts"]
    assert sum(layout["is_recommended"] for layout in layouts) == sum(layout["is_present"] for layout in layouts) == 1
    assert {layout["dist"] for layout in layouts} == {None, "load", "worksteal", "loadfile", "loadscope"}
    assert sorted(diagnosis.directory.rglob("*")) == before
    assert "tests/conftest.py:3 imports slow_module" in page.read_text()
    assert "| layout | predicted |" in summary.read_text()

    def is_pool_dropped() -> bool:
        pools = project.client.call("GET", "/v1/pools")["pools"]
        return not [pool for pool in pools if pool["pool"].startswith("diagnose_") and not pool["dropping"]]

    eventually(is_pool_dropped)


def test_diagnosis_without_daemon_runs_no_test(diagnosis: Diagnosis) -> None:
    diagnosis.file("test_a.py", "def test_one():\n    open('has-run', 'w')\n")
    diagnosed = diagnosis.run(command=[*PYTEST, "-p", "pgdibs.pytest_plugin"])
    assert (diagnosed.status, diagnosed.document["tests"], diagnosed.document["layouts"]) == (0, 1, None)
    assert (diagnosed.document["xdist"], diagnosed.document["coverage"]) == (None, None)
    assert diagnosed.not_seen("tests, database, durations").startswith(f"no daemon: none answers at {NO_DAEMON}")
    assert "pytest-xdist is not installed or not loaded" in diagnosed.not_seen("workers")
    assert len(diagnosed.runs("start_up")) == 1
    assert [one["processes"] for one in diagnosed.document["at_once"]][:2] == [1, 2]
    assert not (diagnosis.directory / "has-run").exists()


@pytest.mark.long
def test_durations_of_junit_file_give_layouts_without_daemon(diagnosis: Diagnosis) -> None:
    diagnosis.file("tests/test_a.py", "import pytest\n\nclass TestX:\n    def test_one(self): pass\n\ndef test_two(): pass\n")
    cases = '<testcase classname="tests.test_a.TestX" name="test_one" time="7200.5"/>'
    junit = diagnosis.file("junit.xml", f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    diagnosed = diagnosis.run("--durations-from", str(junit))
    assert diagnosed.document["durations"]["longest"] == {"test": "tests/test_a.py::TestX::test_one", "seconds": 7200.5}
    assert diagnosed.document["durations"]["known"] == 1
    assert diagnosed.document["layouts"][0]["seconds"] > 14401
    # What was measured is not lost with the page.
    unwritable = diagnosis.run("--durations-from", str(junit), "--html", str(diagnosis.directory / "none/page.html"))
    assert (unwritable.status, unwritable.document["tests"]) == (1, 2)
    refused = diagnosis.run("--durations-from", str(diagnosis.file("other.json", '{"tests/test_b.py::test": 1.0}')))
    assert refused.status == 1
    assert "it has none of the tests that the command collects" in refused.errors


def test_durations_of_pytest_split_are_found_in_the_root(diagnosis: Diagnosis) -> None:
    diagnosis.file("pytest.ini", "[pytest]\n")
    diagnosis.file("tests/test_a.py", "def test_one(): pass\ndef test_two(): pass\ndef test_three(): pass\n")
    diagnosis.file(
        ".test_durations",
        '{"tests/test_a.py::test_one": 1.0, "tests/test_a.py::test_two": 3.5, "tests/test_a.py::test_three": -1.0}',
    )
    document = diagnosis.run(command=[*PYTEST, "tests"]).document
    assert document["durations"]["origin"] == str(diagnosis.directory / ".test_durations")
    assert (document["durations"]["known"], document["durations"]["seconds"]) == (2, 6.75), "the third gets the mean"
    assert len(document["layouts"]) > 4


@pytest.mark.long
def test_suite_of_one_test_is_measured_with_and_without_coverage(diagnosis: Diagnosis, project: Project) -> None:
    diagnosis.url = project.daemon.url
    diagnosis.file("app.py", "def answer():\n    return 42\n")
    diagnosis.file("test_a.py", "import app\n\ndef test_one(): assert app.answer() == 42\n")
    before = sorted(diagnosis.directory.rglob("*"))
    plugins = ["-p", "pytest_cov", "-p", "pgdibs.pytest_plugin"]
    diagnosed = diagnosis.run(command=[*PYTEST, *plugins, "--cov=app", "--cov-report=xml"])
    document = diagnosed.document
    assert (diagnosed.status, document["tests"], document["durations"]["known"]) == (0, 1, 1)
    assert document["coverage"] is not None
    assert len(diagnosed.runs("start_up_without_coverage")) == len(diagnosed.runs("tests_without_coverage")) == 1
    assert diagnosed.runs("start_up_without_coverage") < diagnosed.runs("start_up")
    recommended = next(layout for layout in document["layouts"] if layout["is_recommended"])
    assert recommended["workers"] == 0
    assert sorted(diagnosis.directory.rglob("*")) == before


def test_daemon_whose_server_is_down_is_said_and_no_test_runs(diagnosis: Diagnosis) -> None:
    listen = f"127.0.0.1:{free_port()}"
    diagnosis.url = f"http://{listen}"
    log = diagnosis.directory.parent / "daemon.log"
    command = [diagnosis.program, "serve", "--listen", listen, "--server-url", "postgresql://postgres@127.0.0.1:1/postgres"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PGDIBS_")}
    environment["PGDIBS_DATA_DIR"] = str(diagnosis.directory.parent / "data")
    daemon = DaemonProcess(command, environment, diagnosis.url, log)
    diagnosis.file("test_a.py", "def test_one():\n    open('has-run', 'w')\n")
    try:
        eventually(lambda: "listens on" in log.read_text())
        diagnosed = diagnosis.run(command=[*PYTEST, "-p", "pgdibs.pytest_plugin", "-o", "pgdibs_pool=some"])
    finally:
        daemon.kill()
    assert diagnosed.status == 0
    why = diagnosed.not_seen("tests, database, durations")
    assert "can lease nothing now: " in why
    assert "waiting for the Postgres server at 127.0.0.1:1: connection refused" in why
    assert not (diagnosis.directory / "has-run").exists()


def test_command_that_cannot_be_collected_shows_its_error(diagnosis: Diagnosis) -> None:
    diagnosis.file("test_a.py", "import does_not_exist\n")
    diagnosed = diagnosis.run()
    assert diagnosed.status == 1
    assert "No module named 'does_not_exist'" in diagnosed.not_seen("collection")
    assert len(diagnosed.runs("interpreter")) == 1


def test_option_of_absent_plugin_shows_the_error_of_pytest(diagnosis: Diagnosis) -> None:
    diagnosed = diagnosis.run(command=[*PYTEST, "-n", "4", "--cov=app"])
    assert diagnosed.status == 1
    assert "unrecognized arguments: -n --cov=app" in diagnosed.not_seen("collection")


def test_guard_keeps_tests_from_the_developers_database(diagnosis: Diagnosis, project: Project) -> None:
    diagnosis.url = project.daemon.url
    diagnosis.file(
        "conftest.py", "import psycopg\n\ndef pytest_runtest_setup(): psycopg.connect('postgresql://me@127.0.0.1:9/dev')\n"
    )
    diagnosis.environment = {"PGDIBS_GUARD": "off"}
    diagnosis.file("test_a.py", "def test_one(): pass\n")
    diagnosed = diagnosis.run(command=[*PYTEST, "-p", "pgdibs.pytest_plugin"])
    assert "pgdibs: stopped a connection" in diagnosed.not_seen("tests, database, durations")
    assert len(diagnosed.document["at_once"]) > 0


def test_command_that_asks_the_terminal_shows_its_error(diagnosis: Diagnosis) -> None:
    diagnosis.file("conftest.py", "input('password: ')\n")
    assert "reading from stdin" in diagnosis.run().not_seen("collection")


def test_command_that_reads_from_the_terminal_is_ended_at_once(diagnosis: Diagnosis) -> None:
    diagnosis.file("conftest.py", "open('/dev/tty').readline()\n")
    controller, terminal = pty.openpty()

    def get_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    try:
        diagnosed = diagnosis.run("--timeout", "60", before=get_terminal)
    finally:
        os.close(controller)
        os.close(terminal)
    assert diagnosed.status == 1
    assert "it was ended when it used the terminal" in diagnosed.not_seen("collection")


def test_command_that_hangs_is_ended_with_what_was_known(diagnosis: Diagnosis) -> None:
    diagnosis.file("conftest.py", "import threading\nthreading.Event().wait()\n")
    diagnosed = diagnosis.run("--timeout", "5")
    assert diagnosed.status == 1
    assert "it was still running after" in diagnosed.not_seen("collection")
    assert len(diagnosed.runs("interpreter")) == 1


@pytest.mark.long
def test_test_that_hangs_leaves_the_durations_of_the_others(diagnosis: Diagnosis, project: Project) -> None:
    diagnosis.url = project.daemon.url
    diagnosis.file("test_a.py", "import threading\n\ndef test_one(): pass\ndef test_two(): threading.Event().wait()\n")
    diagnosed = diagnosis.run("--timeout", "8", command=[*PYTEST, "-p", "pgdibs.pytest_plugin"])
    assert diagnosed.document["durations"]["known"] == 1
    assert "only 1 of 2 ran" in diagnosed.not_seen("durations of some tests")


def test_environment_without_pytest_is_said(diagnosis: Diagnosis) -> None:
    diagnosed = diagnosis.run(command=[sys.executable, "-S", "-m", "pytest"])
    assert diagnosed.status == 1
    assert "No module named pytest" in diagnosed.not_seen("the command")
    missing = diagnosis.run(command=["no-such-directory/pytest"])
    assert "cannot run `no-such-directory/pytest`" in missing.not_seen("the command")


def test_suite_without_tests_is_said(diagnosis: Diagnosis) -> None:
    diagnosis.file("conftest.py", "")
    diagnosed = diagnosis.run()
    assert (diagnosed.document["tests"], diagnosed.document["layouts"]) == (0, None)
    assert diagnosed.not_seen("tests") == "the command collects no test"


@pytest.mark.long
def test_interrupt_prints_what_is_known(diagnosis: Diagnosis) -> None:
    diagnosis.file("test_a.py", "def test_one(): pass\n")
    process = diagnosis.start("--runs", "50")
    assert process.stderr is not None
    while "round 2 of 50" not in (line := process.stderr.readline()):
        assert line, "it ended"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    diagnosed = Diagnosed(process.returncode, output, errors)
    assert (diagnosed.status, diagnosed.document["is_partial"]) == (130, True)
    assert len(diagnosed.runs("start_up")) >= 1


@pytest.mark.long
def test_other_command_gets_its_general_part(diagnosis: Diagnosis, project: Project) -> None:
    diagnosis.url = project.daemon.url
    command = [sys.executable, "-c", "import os; assert os.environ['PGDATABASE'].startswith('diagnose_')"]
    diagnosed = diagnosis.run(command=command)
    assert diagnosed.status == 0
    assert "is not pytest" in diagnosed.not_seen("imports, collection, durations, layouts")
    assert [one["processes"] for one in diagnosed.document["at_once"]][:2] == [1, 2]
    assert len(diagnosed.document["database"]["lease"]["runs"]) == len(diagnosed.runs("start_up")) == 1
