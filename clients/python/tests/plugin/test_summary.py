"""The header and the summary: also after Ctrl-C and `-x`, under xdist, and without leases."""

from __future__ import annotations

import os
import re
import signal

import pytest
from projects import Project, Ran, eventually

SLOW = """
import pathlib, os, time, pytest
def wait(lease):
    pathlib.Path(f"slow-{lease.worker}").write_text(str(os.getpid()))
    deadline = time.monotonic() + 60
    while not pathlib.Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # the pause between two polls
@pytest.fixture(scope="session", autouse=True)
def set_up(pgdibs_lease):
    if "WHEN" == "before the first report":
        wait(pgdibs_lease)
@pytest.mark.parametrize("number", range(20))
def test_slow(number, pgdibs_lease):
    if number >= 6:
        wait(pgdibs_lease)
"""


def assert_summary(ran: Ran, counted: str) -> None:
    """Assert that the summary is printed once, with so many databases."""
    lines = re.findall(r"^\d+ databases? leased.*$", ran.output, re.MULTILINE)
    assert len(lines) == 1, ran.output
    assert lines[0].startswith(f"{counted}, template "), lines
    assert re.search(r", wait p50 \d+\.\d ms max \d+\.\d ms, \d+ resets?, \d+ kept$", lines[0]), lines
    time = r"^the run took \d+\.\d s: start-up and import \d+\.\d\d s \(\d+ %\), "
    assert len(re.findall(time, ran.output, re.MULTILINE)) == 1, ran.output


@pytest.mark.parametrize("when", ["before the first report", pytest.param("later", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("workers", "whom"),
    [
        ("-n0", "all"),
        ("-n2", "all"),
        pytest.param("-n2", "controller", marks=pytest.mark.long),
        pytest.param("-n2", "worker", marks=pytest.mark.long),
    ],
    ids=["serial", "xdist", "xdist, controller only", "xdist, worker only"],
)
def test_summary_is_printed_after_ctrl_c(project: Project, workers: str, whom: str, when: str) -> None:
    project.file("test_slow.py", SLOW.replace("WHEN", when))
    process = project.start(workers)
    eventually(lambda: all(project.text(f"slow-{who}") for who in (("main",) if workers == "-n0" else ("gw0", "gw1"))))
    if whom == "all":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid if whom == "controller" else int(project.text("slow-gw0")), signal.SIGINT)
        if whom == "worker":
            project.file("go", "")
    ran = project.finish(process)
    assert ran.status == 2, ran.output
    assert "INTERNALERROR" not in ran.output
    # xdist replaces a worker that was interrupted alone.
    number = 3 if whom == "worker" else 2
    assert_summary(ran, "1 database leased" if workers == "-n0" else f"{number} databases leased by {number} workers")
    project.assert_no_leases()


@pytest.mark.long
@pytest.mark.parametrize("workers", [pytest.param("-n0", marks=pytest.mark.long), "-n2"])
@pytest.mark.parametrize("option", ["-x", pytest.param("--maxfail=2", marks=pytest.mark.long)])
def test_summary_is_printed_after_early_stop(project: Project, workers: str, option: str) -> None:
    project.file(
        "test_it.py",
        "import pytest\n@pytest.mark.parametrize('number', range(20))\ndef test_it(number, pgdibs_url):\n    assert number < 1\n",
    )
    ran = project.run(workers, option)
    assert ran.status in (1, 2), ran.output
    assert ran.counted("failed") < 19
    assert_summary(ran, "1 database leased" if workers == "-n0" else "2 databases leased by 2 workers")


@pytest.mark.long
def test_summary_counts_dead_workers(project: Project) -> None:
    project.file(
        "test_it.py",
        """
import os, pytest
@pytest.mark.parametrize("number", range(8))
def test_it(number, pgdibs_lease):
    if number == 0:
        open("first", "w").write(pgdibs_lease.worker)
        os._exit(9)
""",
    )
    ran = project.run("-n2")
    assert ran.status == 1, ran.output
    assert_summary(ran, "3 databases leased by 3 workers")


@pytest.mark.long
def test_summary_counts_only_workers_that_leased(project: Project) -> None:
    project.settings["pgdibs_env"] = ""
    project.file("test_one.py", "def test_it(pgdibs_url):\n    pass\n")
    project.file("test_two.py", "def test_it():\n    pass\n")
    ran = project.run("-n2", "--dist=loadfile")
    ran.assert_passed(2)
    assert_summary(ran, "1 database leased by 1 worker")
    assert f"\npgdibs: a worker leases from pool {project.pool} at {project.daemon.url} (template built by `" in ran.output


@pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])
def test_summary_reports_zero_leases(project: Project, workers: str) -> None:
    project.settings["pgdibs_env"] = ""
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    ran = project.run(workers)
    ran.assert_passed(1)
    line = (
        f"pgdibs: no lease was taken although pgdibs_pool = {project.pool}: no test used a fixture of pgdibs and no variable "
        'was set; see docs/troubleshooting.md, "no lease was taken"\n'
    )
    assert ran.output.count(line) == 1, ran.output
    assert "leased" not in ran.output


def test_header_names_every_leased_database(project: Project) -> None:
    project.settings.update(pgdibs_env="DATABASE_URL STATS_URL=stats", pgdibs_aliases="stats")
    project.file("test_it.py", "import os\ndef test_it():\n    print(os.environ['DATABASE_URL'], os.environ['STATS_URL'])\n")
    ran = project.run("-s")
    ran.assert_passed(1)
    names = re.findall(rf"/({project.pool}_gw\d)", ran.output)
    assert len(set(names)) == 2
    assert f"\npgdibs: leased {names[0]}, {names[1]} (stats) from {project.daemon.url}\n" in ran.output
