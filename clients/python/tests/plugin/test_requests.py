"""The requests of a run: one before the first test, none that the end of the process waits for; a lease ends all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from projects import Daemon, Project, eventually
from recording_proxy import RecordingProxy

LEASE = "POST /v1/leases/batch"
NOTES_TIME = """
import os, pathlib, time
def test_it():
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    assert os.environ["DATABASE_URL"]
    pathlib.Path("began-" + worker).write_text(str(time.time()))
"""


@pytest.fixture
def proxy(project: Project) -> Iterator[RecordingProxy]:
    """In front of the daemon of the project; the template is there, and a database is ready."""
    project.file("test_it.py", NOTES_TIME)
    project.run("-n0").assert_passed(1)
    project.client.put_pool(project.pool, warm=2)
    eventually(lambda: project.counts()["ready"] == 2)
    proxy = RecordingProxy(project.daemon.url)
    project.environment["PGDIBS_URL"] = proxy.url
    yield proxy
    proxy.close()


def began(project: Project, worker: str = "main") -> float:
    """When the test ran."""
    return float(project.text(f"began-{worker}"))


@pytest.mark.parametrize("start", ["never", "auto"])
def test_one_request_precedes_first_test(project: Project, proxy: RecordingProxy, start: str) -> None:
    project.settings["pgdibs_start"] = start
    started = time.time()
    project.run("-n0").assert_passed(1)
    assert proxy.since(started, began(project)) == [LEASE]
    after = ["DELETE /v1/leases/*", "POST /v1/runs/*/report", f"PUT /v1/pools/{project.pool}/templates/*"]
    eventually(lambda: len(proxy.since(began(project))) == len(after), 20)
    # The last two are sent at once, over connections of their own.
    assert sorted(proxy.since(began(project))) == after


def test_login_of_ini_file_is_set_before_lease(project: Project, proxy: RecordingProxy) -> None:
    project.settings["pgdibs_login"] = "createdb"
    project.run("-n0").assert_passed(1)
    eventually(lambda: project.counts()["ready"] == 2)
    started = time.time()
    project.run("-n0").assert_passed(1)
    assert proxy.since(started, began(project)) == [f"PUT /v1/pools/{project.pool}", LEASE]


def test_controller_sends_two_requests(project: Project, proxy: RecordingProxy) -> None:
    started = time.time()
    project.run("-n1").assert_passed(1)
    before = proxy.since(started, began(project, "gw0"))
    assert before == [f"PUT /v1/pools/{project.pool}/templates/*", "PUT /v1/runs/*", LEASE]


def test_missing_pool_is_made_after_lease_was_refused(project: Project, proxy: RecordingProxy) -> None:
    project.client.call("DELETE", f"/v1/pools/{project.pool}")
    started = time.time()
    project.run("-n0").assert_passed(1)
    pool, template = f"PUT /v1/pools/{project.pool}", f"PUT /v1/pools/{project.pool}/templates/*"
    assert proxy.since(started, began(project))[:4] == [LEASE, template, pool, template]


def test_template_of_leases_is_current_one(project: Project, proxy: RecordingProxy) -> None:
    project.run("-n0", "-o", "pgdibs_fingerprint_env=NEWER").assert_passed(1)
    project.file(
        "test_it.py",
        NOTES_TIME
        + f"""
def test_lease_without_fingerprint(pgdibs_lease):
    from pgdibs import Client
    from pgdibs.errors import TemplateAmbiguous
    deadline = time.monotonic() + 30
    while True:
        try:
            with Client().lease({project.pool!r}) as other:
                if other.fingerprint == pgdibs_lease.fingerprint:
                    return
        except TemplateAmbiguous:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.02)  # the pause between two polls
""",
    )
    started = time.time()
    project.run("-n0").assert_passed(2)
    assert proxy.since(started, began(project)) == [LEASE]


def test_lease_ends_although_daemon_stands_still_at_exit(project: Project, daemon: Daemon) -> None:
    project.environment["DAEMON"] = str(daemon.process.pid)
    stop = "import os, signal\ndef pytest_sessionfinish():\n    os.kill(int(os.environ['DAEMON']), signal.SIGSTOP)\n"
    project.file("conftest.py", stop)
    project.file("test_it.py", NOTES_TIME)
    try:
        # Only a process that waits for no answer ends here.
        project.finish(project.start("-n0"), 30).assert_passed(1)
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    eventually(lambda: project.leases() == [], 20)  # less than the time to live of 60 s
    (state,) = {lease["state"] for lease in project.client.leases(pool=project.pool, state="all")}
    assert state == "released"
