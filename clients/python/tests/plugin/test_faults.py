"""Faults during a run: the daemon restarts or is unreachable, a lease is lost."""

from __future__ import annotations

import pytest
from projects import Daemon, Project, eventually

STEPS = """
import os, pathlib, time, psycopg, pytest
@pytest.mark.parametrize("number", range(6))
def test_it(number, pgdibs_lease):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("select 1")
    pathlib.Path(f"done-{number}").write_text("x")
    if number:  # so that no worker ends, and releases its lease, before the daemon is killed
        deadline = time.monotonic() + 60
        while not pathlib.Path("go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)  # the pause between two polls
"""


def test_run_survives_restart_of_killed_daemon(project: Project, daemon: Daemon) -> None:
    project.file("test_it.py", STEPS)
    process = project.start("-n2")
    eventually(lambda: project.text("done-1") and len(project.leases()) == 2)
    daemon.process.kill()
    daemon.start()
    assert len(project.leases()) == 2
    project.file("go", "")
    project.finish(process).assert_passed(6)
    project.assert_no_leases()


@pytest.mark.long
def test_unreachable_daemon_at_end_prints_one_line(project: Project, daemon: Daemon) -> None:
    project.file("test_it.py", STEPS)
    process = project.start("-n2")
    eventually(lambda: project.text("done-1"))
    daemon.process.kill()
    try:
        project.file("go", "")
        ran = project.finish(process, 60)
        ran.assert_passed(6)
        assert "pgdibs: the run was not ended, its leases end by themselves: " in ran.output
        assert "Traceback" not in ran.output
    finally:
        daemon.start()
    for lease in project.leases():
        project.client.call("DELETE", f"/v1/leases/{lease['id']}")


def test_each_test_after_lost_lease_fails(project: Project) -> None:
    project.file("short_life.py", "import pgdibs.plugin.databases\npgdibs.plugin.databases.TTL_SECONDS = 2\n")
    project.file("conftest.py", LOST)
    project.file(
        "test_it.py",
        "import pytest\n@pytest.mark.parametrize('number', range(6))\ndef test_it(number, lose_lease_at_1):\n    pass\n",
    )
    ran = project.run("-n0", "-p", "short_life")
    assert (ran.status, ran.counted("passed"), ran.counted("error")) == (1, 2, 4), ran.output
    assert "lease_ended" in ran.output
    assert "Traceback" not in ran.output


LOST = """
import os, time, urllib.request, pytest
@pytest.fixture
def lose_lease_at_1(number, pgdibs_lease):
    yield
    if number:  # so that no worker ends, and releases its lease, before the daemon is killed
        request = urllib.request.Request(os.environ["PGDIBS_URL"] + "/v1/leases/" + pgdibs_lease.id, method="DELETE")
        urllib.request.urlopen(request).close()
        deadline = time.monotonic() + 60
        while pgdibs_lease.lost is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # the pause between two polls
"""
