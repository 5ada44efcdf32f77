"""`pgdibs diagnose`: what it measures, that it leaves the files alone, what it says about commands that it cannot measure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest
from projects import Daemon, Project, eventually

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

    def start(self, *arguments: str, command: Optional[list[str]] = None) -> subprocess.Popen[str]:
        """Start it."""
        # With PYTHONDONTWRITEBYTECODE Python would leave the tree alone whatever diagnose does.
        foreign = ("PGDIBS_", "PYTEST_", "PG", "PYTHON")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        environment.update(PGDIBS_URL=self.url, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **self.environment)
        words = [self.program, "diagnose", "--output", "json", *arguments, "--", *(command or PYTEST)]
        return subprocess.Popen(
            words, cwd=self.directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str, command: Optional[list[str]] = None) -> Diagnosed:
        """Run it, with one run of everything."""
        process = self.start("--runs", "1", *arguments, command=command)
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
    refused = diagnosis.run("--durations-from", str(diagnosis.file("other.json", '{"tests/test_b.py::test": 1.0}')))
    assert refused.status == 1
    assert "it has none of the tests that the command collects" in refused.errors


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
