"""The report of a run: in the summary, as JSON, as a page, and at the daemon, which keeps it; without and with xdist."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from projects import Daemon, Project, eventually
from recording_proxy import RecordingProxy

PHASES = ["start_up", "import", "template", "database", "reset", "tests", "idle"]
SLOW_IMPORT = "import time\ntime.sleep(0.4)  # a slow import, which the report must show\n"
TESTS = """
import os, time, psycopg, pytest
@pytest.fixture(scope="session")
def held(pgdibs_url):
    with psycopg.connect(pgdibs_url) as one, psycopg.connect(pgdibs_url):
        yield one
def test_short(held):
    held.execute("insert into notes (body) values ('x')")
    held.commit()
"""
LONG = "import time\ndef test_long():\n    time.sleep(1.0)  # what the other worker waits for\n"


def report_of(project: Project, name: str = "run.json") -> dict[str, Any]:
    """The report that the run has written."""
    report: dict[str, Any] = json.loads(project.text(name))
    return report


def assert_lanes_are_whole(report: dict[str, Any]) -> None:
    """Assert that each lane goes without a gap from the start of its process to its end, and has the seconds of the table."""
    for worker in report["workers"]:
        lane = worker["lane"]
        assert lane[0][1] == worker["began"] and lane[-1][2] == pytest.approx(worker["ended"], abs=0.002), worker
        assert all(one[2] == pytest.approx(other[1], abs=0.002) for one, other in zip(lane, lane[1:])), lane
        assert {phase for phase, _begin, _end in lane} <= set(PHASES)
        drawn = sum(end - begin for phase, begin, end in lane if phase == "tests")
        assert drawn == pytest.approx(worker["seconds"]["tests"], abs=0.1), worker


def test_report_without_xdist_has_each_phase_and_reaches_the_daemon(project: Project) -> None:
    project.file("conftest.py", SLOW_IMPORT)
    project.file("test_it.py", TESTS + "def test_clean(pgdibs_fresh_url):\n    time.sleep(0.3)  # the time of a test\n")
    ran = project.run("--pgdibs-report=run.json", "--pgdibs-report", "run.html")
    ran.assert_passed(2)
    report = report_of(project)
    seconds = report["seconds"]
    assert sum(seconds[phase] for phase in PHASES) == pytest.approx(seconds["total"], abs=0.01)
    assert seconds["import"] >= 0.4 and seconds["tests"] >= 0.3 and seconds["template"] > 0 and seconds["database"] > 0
    assert seconds["start_up"] > 0.05, "the interpreter and pytest, before the plugin was loaded"
    assert seconds["reset"] > 0 and seconds["idle"] == 0
    assert_lanes_are_whole(report)
    (worker,) = report["workers"]
    assert (worker["worker"], worker["tests"], worker["crashed"], report["controller"]) == ("main", 2, False, [])
    assert (report["databases"]["leased"], report["databases"]["resets"], report["databases"]["kept"]) == (1, 1, 0)
    assert worker["connections"] == 2 and worker["peak_rss_mb"] > 10
    assert report["template"]["built"] == "by this run"
    page = project.text("run.html")
    assert page.startswith("<!doctype html>") and "var(--reset)" in page and "http" not in page
    assert "\nreport: run.json\nreport: run.html\n" in ran.output
    summary = ran.output.partition(" pgdibs ====")[2].partition("\n")[2].partition("\nreport: ")[0].splitlines()
    assert len(summary) in (2, 3) and summary[1].startswith(f"the run took {seconds['total']:.1f} s: start-up and import ")
    (kept,) = eventually(lambda: project.client.runs(project.pool))
    assert kept["state"] == "ended" and kept["run"] == report["run"] and kept["seconds"] == seconds
    assert kept["workers"] == [{"worker": "main", "peak_rss_mb": worker["peak_rss_mb"], "connections": 2}]


def test_report_with_xdist_has_a_lane_for_each_worker(project: Project) -> None:
    project.file("conftest.py", SLOW_IMPORT)
    project.file("test_one.py", TESTS)
    project.file("test_two.py", LONG)
    ran = project.run("-n2", "--dist=loadfile", "--pgdibs-report=run.json")
    ran.assert_passed(2)
    report = report_of(project)
    seconds, workers = report["seconds"], {worker["worker"]: worker for worker in report["workers"]}
    assert sorted(workers) == ["gw0", "gw1"]
    assert sum(seconds[phase] for phase in PHASES) == pytest.approx(seconds["total"], abs=0.01)
    assert_lanes_are_whole(report)
    for worker in workers.values():
        # The imports of the controller and of the worker, one after the other.
        assert worker["seconds"]["import"] >= 0.8 and worker["ended"] == pytest.approx(seconds["total"], abs=0.01)
        assert sum(worker["seconds"].values()) == pytest.approx(seconds["total"], abs=0.05)
    slowest = workers.pop(report["slowest"])
    (other,) = workers.values()
    assert slowest["seconds"]["tests"] >= 1.0 and other["seconds"]["idle"] >= 0.5
    assert other["lane"][-1][0] == "idle" and report["idle_at_end"] > 0.2
    assert [phase for phase, _begin, _end in report["controller"]][:3] == ["start_up", "import", "template"]
    assert re.search(
        rf"^slowest worker {slowest['worker']}: started at .*, tests 1\.\d\d s \(1\), done at ", ran.output, re.MULTILINE
    )
    assert re.search(r", idle workers \d\.\d\d s \(\d+ %\), at the end \d\.\d\d s$", ran.output, re.MULTILINE)
    (kept,) = eventually(lambda: project.client.runs(project.pool))
    assert kept["state"] == "ended" and [worker["worker"] for worker in kept["workers"]] == ["gw0", "gw1"]


def test_lane_of_crashed_worker_ends_there(project: Project) -> None:
    project.file(
        "test_it.py", TESTS + "def test_crash(held):\n    time.sleep(0.3)  # a test before it crashes\n    os._exit(9)\n"
    )
    project.file("test_other.py", LONG)
    ran = project.run("-n2", "--pgdibs-report=run.json", "--pgdibs-report=run.html")
    assert ran.counted("failed") == 1 and "INTERNALERROR" not in ran.output, ran.output
    report = report_of(project)
    crashed, total = [worker for worker in report["workers"] if worker["crashed"]], report["seconds"]["total"]
    assert len(crashed) == 1 and len(report["workers"]) == 3
    assert crashed[0]["ended"] < total - 0.2 and crashed[0]["lane"][-1][0] == "tests"
    assert crashed[0]["seconds"]["tests"] >= 0.3
    replacement = max(report["workers"], key=lambda worker: float(worker["began"]))
    assert replacement["worker"] == "gw2" and replacement["began"] >= crashed[0]["ended"] - 0.1
    assert_lanes_are_whole(report)
    assert ">crashed</b>" in project.text("run.html")


@pytest.mark.shared_pool
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_report_without_a_terminal_and_without_tests(project: Project, workers: str) -> None:
    project.settings["pgdibs_env"] = ""
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    before = len(project.client.runs(project.pool))
    ran = project.run(workers, "-k", "no_such_test", "-p", "no:terminal", "--pgdibs-report=run.json", "--pgdibs-report=run.html")
    assert ran.status == 5 and "Error" not in ran.output and "the run took" not in ran.output, ran.output
    report = report_of(project)
    assert report["seconds"]["tests"] < 0.5 and report["databases"]["leased"] == 0
    assert len(report["workers"]) == (1 if workers == "-n0" else 2)
    assert "</html>" in project.text("run.html")
    # Without xdist the plugin has not asked the daemon for anything, and so does not report to it either.
    assert len(project.client.runs(project.pool)) == before + (0 if workers == "-n0" else 1)


@pytest.mark.shared_pool
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pgdibs-report=run.txt"], "--pgdibs-report is `run.txt`; it has to end in .json or .html"),
        (["--pgdibs-report=no/run.json"], "--pgdibs-report is `no/run.json`; it has to be a file in a directory that exists"),
        (["--pgdibs-report=run.json", "--pgdibs=off"], "--pgdibs-report has no effect with --pgdibs=off"),
        (["--pgdibs-report=run.json", "-c", "/dev/null"], "--pgdibs-report needs a pool: set pgdibs_pool in the ini file"),
    ],
    ids=["ending", "directory", "off", "no pool"],
)
def test_report_that_cannot_be_written_stops_the_run_before_it_begins(
    project: Project, arguments: list[str], sentence: str
) -> None:
    project.file("test_it.py", "open('was-imported', 'w')\n")
    ran = project.run("-n0", *arguments)
    assert ran.status == 4 and len(ran.errors) == 1 and sentence in ran.errors[0], ran.output
    assert project.text("was-imported") == "" and not (project.pytester.path / "was-imported").exists()


@pytest.mark.shared_pool
def test_file_that_cannot_be_written_is_one_line_and_no_failure(project: Project) -> None:
    project.file("test_it.py", "import pathlib\ndef test_it(pgdibs_url):\n    pathlib.Path('run.json').mkdir()\n")
    ran = project.run("-n0", "--pgdibs-report=run.json")
    ran.assert_passed(1)
    assert re.search(r"^the report was not written to .*run\.json: Is a directory$", ran.output, re.MULTILINE), ran.output


def test_summary_and_daemon_name_inputs_that_changed(project: Project) -> None:
    project.settings.update(pgdibs_fingerprint="schema.sql migrations/*.sql", pgdibs_fingerprint_env="SEED_SIZE")
    project.file("migrations/0042_x.sql", "select 1;\n")
    project.file("test_it.py", "def test_it(pgdibs_url):\n    pass\n")
    first = project.run("-n0")
    first.assert_passed(1)
    assert re.search(r", template built in \d+\.\d\d s, wait p50 ", first.output), "there is no template before to compare with"
    project.file("migrations/0042_x.sql", "select 2;\n")
    project.file("migrations/0043_y.sql", "")
    project.environment["SEED_SIZE"] = "7"
    second = project.run("-n1", "--pgdibs-report=run.json")
    second.assert_passed(1)
    changed = r"\(SEED_SIZE, migrations/0042_x\.sql changed; migrations/0043_y\.sql added\)"
    assert re.search(rf", template built in \d+\.\d\d s {changed}, wait p50 ", second.output), second.output
    templates = project.client.call("GET", f"/v1/pools/{project.pool}")["templates"]
    (old, new) = sorted(templates, key=lambda template: str(template["since"]))
    changes = new["input_changes"]
    assert changes["since"] == old["fingerprint"] and old["input_changes"] is None
    assert (changes["changed"], changes["added"]) == (["SEED_SIZE", "migrations/0042_x.sql"], ["migrations/0043_y.sql"])
    assert report_of(project)["template"]["input_changes"] == changes
    again = project.run("-n0")
    assert re.search(r", template reused in \d+\.\d\d s, wait p50 ", again.output), again.output
    forced = project.run("-n0", "--pgdibs-rebuild")
    assert re.search(r", template built in \d+\.\d\d s \(.*\), wait p50 ", forced.output), forced.output


def test_run_is_reported_once_and_not_awaited(project: Project) -> None:
    project.file("test_it.py", "def test_it(pgdibs_url):\n    pass\n")
    project.run("-n0").assert_passed(1)
    proxy = RecordingProxy(project.daemon.url)
    project.environment["PGDIBS_URL"] = proxy.url
    for workers, ends in (("-n0", "DELETE /v1/leases/*"), ("-n1", "DELETE /v1/runs/*")):
        began = len(proxy.requests)
        project.run(workers).assert_passed(1)
        eventually(lambda: any("DELETE" in request for _at, request in proxy.requests[began:]), 20)  # noqa: B023
        sent = proxy.since(0)[began:]
        assert sent.count("POST /v1/runs/*/report") == 1 and ends in sent, sent
    proxy.close()
    eventually(lambda: len(project.client.runs(project.pool)) == 3)


@pytest.mark.long
def test_end_of_run_without_daemon_is_said_once(project: Project) -> None:
    daemon = Daemon()
    project.environment["PGDIBS_URL"] = daemon.url
    project.environment["DAEMON"] = str(daemon.process.pid)
    project.file(
        "test_it.py",
        "import os, signal\ndef test_it(pgdibs_url):\n    os.killpg(int(os.environ['DAEMON']), signal.SIGKILL)\n",
    )
    try:
        alone = project.run("-n0")
        alone.assert_passed(1)
        assert "Traceback" not in alone.output and alone.output.count("no pgdibs daemon answers") == 0, alone.output
        daemon.process.kill()
        daemon.start()
        project.environment["DAEMON"] = str(daemon.process.pid)
        shared = project.run("-n1")
        shared.assert_passed(1)
        # The sentence about the end of the run, as before there were reports.
        assert shared.output.count("no pgdibs daemon answers") == 1, shared.output
    finally:
        daemon.process.kill()
        daemon.start()
        daemon.remove()
