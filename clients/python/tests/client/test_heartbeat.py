"""The heartbeat: its interval, its thread, fork, restarts of the daemon, lost leases."""

from __future__ import annotations

import io
import sys
import threading
import time
from typing import Any

import pytest
from scripted import Reply, Scripted
from support import Daemon, eventually, finished, python

import pgdibs

GRANTED: dict[str, Any] = {
    "id": "the-lease",
    "url": "postgresql://u:p@h/d",
    "database": "d",
    "slot": 0,
    "host": "h",
    "port": 5432,
    "user": "u",
    "password": "p",
    "generation": 1,
    "pool": "p",
    "fingerprint": "f",
    "ttl_seconds": 1,
    "renew_after_seconds": 0.3,
}
ENDED = {"code": "lease_ended", "detail": "lease the-lease was revoked at 10:00"}


def heartbeats() -> list[threading.Thread]:
    """The heartbeat threads of this process."""
    return [thread for thread in threading.enumerate() if thread.name == "pgdibs-heartbeat"]


def renewals(scripted: Scripted) -> list[float]:
    """The times of the renewals at the scripted server."""
    return [request.time for request in scripted.requests if request.path.endswith("/renew")]


def test_heartbeat_renews_at_interval_of_daemon(scripted: Scripted) -> None:
    with pgdibs.Lease(pgdibs.Client(scripted.url), GRANTED):
        eventually(lambda: len(renewals(scripted)) >= 4)
    times = renewals(scripted)
    pauses = [later - earlier for earlier, later in zip(times, times[1:])]
    assert all(0.29 <= pause < 10 for pause in pauses), pauses


def test_sent_release_waits_for_no_answer(scripted: Scripted) -> None:
    scripted.replies = [Reply(hangs=True)]
    lease = pgdibs.Lease(pgdibs.Client(scripted.url), GRANTED)
    lease.send_release()
    eventually(lambda: scripted.requests)
    assert not scripted.hung_up.is_set()  # the connection is open until the end of the process
    lease.send_release()
    lease.release()
    assert [(request.method, request.path) for request in scripted.requests] == [("DELETE", "/v1/leases/the-lease")]
    assert "released" in repr(lease)
    eventually(lambda: not heartbeats())


def test_one_thread_renews_all_leases(client: pgdibs.Client, pool: str) -> None:
    leases = [client.lease(pool, ttl_seconds=ttl) for ttl in (4, 5)]
    assert len(heartbeats()) == 1
    deadline = time.monotonic() + 6.5
    while time.monotonic() < deadline:
        assert len(client.leases(pool=pool)) == 2
        # Polls for longer than the time to live of either lease.
        time.sleep(0.1)
    for lease in leases:
        assert lease.lost is None
        lease.release()
    eventually(lambda: not heartbeats())
    with client.lease(pool):
        assert len(heartbeats()) == 1


def test_lease_without_heartbeat_expires(client: pgdibs.Client, pool: str) -> None:
    lease = client.lease(pool, ttl_seconds=1, heartbeat=False)
    eventually(lambda: not heartbeats())
    eventually(lambda: not client.leases(pool=pool))
    with pytest.raises(pgdibs.LeaseEnded):
        lease.renew()
    assert lease.lost is not None


def test_lost_lease_raises_and_warns(client: pgdibs.Client, pool: str, capfd: pytest.CaptureFixture[str]) -> None:
    lease = client.lease(pool, ttl_seconds=3)
    client.call("DELETE", f"/v1/leases/{lease.id}")
    err = eventually(lambda: capfd.readouterr().err)
    assert isinstance(lease.lost, pgdibs.LeaseEnded)
    assert err.count("\n") == 1
    assert err.startswith(f"pgdibs: the lease on {lease.database} was lost, so results of tests on it are invalid: ")
    assert "was released at" in err
    for call in (lease.renew, lease.reset, lease.keep):
        with pytest.raises(pgdibs.LeaseEnded, match="was released at"):
            call()
    lease.release()
    assert capfd.readouterr().err == "" and "lost" in repr(lease)


# Regression: with a closed standard error, a process renewed no lease after it had lost one.
def test_heartbeat_continues_with_closed_standard_error(
    client: pgdibs.Client, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, kept = (client.lease(pool, ttl_seconds=3) for _ in range(2))
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    client.call("DELETE", f"/v1/leases/{lost.id}")
    eventually(lambda: lost.lost)
    ends: set[str] = set()

    def is_renewed() -> bool:
        # Each renewal moves `expires_at`.
        ends.add(client.call("GET", f"/v1/leases/{kept.id}")["expires_at"])
        return len(ends) > 3

    eventually(is_renewed)
    kept.release()


def test_call_on_ended_lease_raises_and_warns(scripted: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    scripted.replies = [Reply(410, ENDED)]
    lease = pgdibs.Lease(pgdibs.Client(scripted.url), {**GRANTED, "renew_after_seconds": 20.0})
    with pytest.raises(pgdibs.LeaseEnded, match="was revoked at 10:00"):
        lease.reset()
    assert lease.lost is not None and "was lost" in capfd.readouterr().err
    assert len(scripted.requests) == 1


def test_failing_renewals_warn_once_and_recover(capfd: pytest.CaptureFixture[str]) -> None:
    broken = Reply(500, {"code": "internal", "detail": "out of order"})
    with Scripted([*[broken] * 8, Reply()]) as scripted, pgdibs.Lease(pgdibs.Client(scripted.url), GRANTED) as lease:
        eventually(lambda: len(renewals(scripted)) >= 11)
        assert lease.lost is None
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "has not been renewed for" in err and "out of order" in err


def test_renewal_waits_for_retry_after(scripted: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    scripted.replies = [Reply(503, {"code": "server_unavailable", "detail": "wait"}, "0.6"), Reply()]
    with pgdibs.Lease(pgdibs.Client(scripted.url), GRANTED):
        eventually(lambda: len(renewals(scripted)) >= 3)
    first, second, third = renewals(scripted)[:3]
    assert 0.6 <= second - first < 10 and 0.29 <= third - second < 10
    assert capfd.readouterr().err == ""


def test_lease_survives_restart_of_daemon(client: pgdibs.Client, pool: str, daemon: Daemon) -> None:
    with client.lease(pool, ttl_seconds=2) as lease:
        daemon.process.kill()
        daemon.start()
        before = client.leases(pool=pool)[0]["expires_at"]
        eventually(lambda: client.leases(pool=pool)[0]["expires_at"] > before)
        assert lease.lost is None


FORK = """
import os, sys, threading, pgdibs
client = pgdibs.Client(sys.argv[1])
lease = client.lease(sys.argv[2], ttl_seconds=4)
child = os.fork()
if child == 0:
    assert not [thread for thread in threading.enumerate() if thread.name == "pgdibs-heartbeat"]
    lease.release()
    for call in (lease.renew, lease.reset, lease.keep):
        try:
            call()
        except pgdibs.PgdibsError as error:
            assert "belongs to process " + str(os.getppid()) in str(error), error
        else:
            raise AssertionError(call)
    with client.lease(sys.argv[2], ttl_seconds=4) as own:
        assert own.id != lease.id
        assert [thread for thread in threading.enumerate() if thread.name == "pgdibs-heartbeat"]
        sys.stdin.readline()
        assert own.lost is None
    sys.exit(0)  # runs the handlers of `atexit`
print(lease.id, flush=True)
assert os.waitpid(child, 0)[1] == 0
print(lease.lost, flush=True)
sys.stdin.readline()
"""


def test_forked_child_cannot_change_lease_of_parent(client: pgdibs.Client, pool: str) -> None:
    parent = python(FORK, client.url, pool)
    assert parent.stdin is not None and parent.stdout is not None
    own = parent.stdout.readline().strip()
    eventually(lambda: len(client.leases(pool=pool)) == 2)
    deadline = time.monotonic() + 6.5
    while time.monotonic() < deadline:
        assert len(client.leases(pool=pool)) == 2
        # Polls for longer than the time to live of either lease.
        time.sleep(0.1)
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "None\n"
    assert [lease["id"] for lease in client.leases(pool=pool)] == [own]
    assert (*parent.communicate("\n", timeout=60), parent.returncode) == ("", "", 0)


def test_multiprocessing_child_does_not_release_lease(client: pgdibs.Client, pool: str) -> None:
    code = (
        "import multiprocessing, sys, pgdibs\n"
        "client = pgdibs.Client(sys.argv[1])\n"
        "lease = client.lease(sys.argv[2], ttl_seconds=2)\n"
        "for _ in range(3):\n"
        "    child = multiprocessing.get_context('fork').Process(target=lease.release)\n"
        "    child.start(); child.join(); assert child.exitcode == 0\n"
        "lease.renew()\n"
    )
    assert finished(python(code, client.url, pool)) == (0, "", "")
