"""Leases of a real daemon: acquire, reset, keep, release, batches, runs, and restarts of the daemon."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest
from support import Daemon, eventually, finished, program, psql, python, table_exists

import pgdibs
from pgdibs import errors


def test_lease_has_clean_database_until_block_ends(client: pgdibs.Client, pool: str) -> None:
    with client.lease(pool, worker="gw1", holder="me") as lease:
        assert psql(lease.url, "select current_database()") == lease.database
        assert table_exists(lease, "notes")
        assert client.leases(pool=pool)[0]["holder"] == "me"
        assert "live" in repr(lease)
    assert client.leases(pool=pool) == [] and "released" in repr(lease)
    lease.release()
    with pytest.raises(subprocess.CalledProcessError):
        psql(lease.url, "select 1")
    with pytest.raises(pgdibs.LeaseEnded, match="was released here; take a new one"):
        lease.reset()


def test_same_run_worker_and_alias_get_same_lease(client: pgdibs.Client, pool: str) -> None:
    with client.lease(pool, run="r1", worker="gw0") as lease:
        psql(lease.url, "insert into notes values (1)")
        again = client.lease(pool, run="r1", worker="gw0", heartbeat=False)
        assert (again.id, again.url) == (lease.id, lease.url)
        fresh = client.lease(pool, run="r1", worker="gw0", heartbeat=False, fresh=True)
        assert (fresh.id, fresh.generation) == (lease.id, 2)
        assert psql(lease.url, "select count(*) from notes") == "0"


def test_reset_puts_clean_database_behind_same_url(client: pgdibs.Client, pool: str) -> None:
    with client.lease(pool) as lease:
        url = lease.url
        for generation in (2, 3, 4):
            psql(lease.url, f"create table dirt{generation} ()")
            lease.reset()
            assert (lease.generation, lease.url) == (generation, url)
            assert not table_exists(lease, f"dirt{generation}") and table_exists(lease, "notes")


def test_concurrent_resets_run_in_turn(client: pgdibs.Client, pool: str) -> None:
    with client.lease(pool) as lease:
        threads = [threading.Thread(target=lease.reset) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lease.generation == 3


# Regression: the URLs of kept databases and builds ignored `via`.
def test_via_selects_advertised_address_in_all_urls(
    client: pgdibs.Client, daemon: Daemon, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDIBS_VIA", "network")
    inside = pgdibs.Client(daemon.url)
    with inside.lease(pool) as lease, inside.batch([pgdibs.LeaseRequest(pool)])[0] as other:
        assert [(one.host, one.port) for one in (lease, other)] == [("db.internal", 5433)] * 2
        assert "@db.internal:5433/" in lease.url
        assert "@db.internal:5433/" in lease.keep(seconds=1).url
    with inside.lease(pool, via="default") as lease:
        assert psql(lease.url, "select 1") == "1"

    def fail(url: str) -> None:
        raise LookupError(url)

    with pytest.raises(LookupError, match=r"@db\.internal:5433/"):
        inside.ensure_template(pool, "from inside", fail)
    monkeypatch.setenv("PGDIBS_VIA", "moon")
    with pytest.raises(pgdibs.PgdibsError, match="PGDIBS_ADVERTISE"):
        pgdibs.Client(daemon.url).lease(pool)


def test_kept_database_is_unchanged_after_reset(client: pgdibs.Client, pool: str) -> None:
    with client.lease(pool) as lease:
        psql(lease.url, "insert into notes values (42)")
        kept = lease.keep(seconds=60, reason="a test failed")
        lease.reset()
        assert psql(lease.url, "select count(*) from notes") == "0"
    assert psql(kept.url, "select id from notes") == "42"
    assert kept.database.startswith(f"{pool}_kept_") and kept.until.endswith("Z")
    client.call("DELETE", f"/v1/databases/{kept.database}")


def test_batch_grants_all_in_order_or_none(client: pgdibs.Client, pool: str) -> None:
    requests = [pgdibs.LeaseRequest(pool, run="r2", worker="gw0", alias=alias) for alias in ("b", "a", "c")]
    leases = client.batch(requests)
    assert [lease.alias for lease in leases] == ["b", "a", "c"]
    assert len({lease.slot for lease in leases}) == len({lease.database for lease in leases}) == 3
    with pytest.raises(errors.PoolExhausted):
        client.batch([pgdibs.LeaseRequest(pool), pgdibs.LeaseRequest(pool)], wait_seconds=0.1, deadline_seconds=0.2)
    assert len(client.leases(pool=pool)) == 3
    for lease in leases:
        lease.release()


def test_end_of_run_ends_its_leases(client: pgdibs.Client, pool: str) -> None:
    assert client.announce("r3", pool, 2)["workers"] == 2
    with pytest.raises(errors.CapacityExceeded, match="max"):
        client.announce("r3", pool, 500)
    client.lease(pool, run="r3", worker="gw0", heartbeat=False)
    assert client.end_run("r3") == 1
    with pytest.raises(errors.RunEnded):
        client.lease(pool, run="r3", worker="gw0")


def test_invalid_requests_raise_typed_errors_with_hint(client: pgdibs.Client, empty_pool: str) -> None:
    with pytest.raises(errors.PoolNotFound, match='there is no pool "no_such"; make it with'):
        client.lease("no_such")
    with pytest.raises(errors.TemplateNotFound, match="has no template yet"):
        client.lease(empty_pool)
    with pytest.raises(errors.InvalidRequest, match="ttl_seconds"):
        client.lease(empty_pool, ttl_seconds=0)
    with pytest.raises(errors.InvalidRequest, match="pool"):
        client.put_pool("No Such/Name?")


def test_waiter_gets_released_database(client: pgdibs.Client, pool_of_one: str) -> None:
    first = client.lease(pool_of_one, holder="the first")
    with pytest.raises(errors.PoolExhausted, match="the first"):
        client.lease(pool_of_one, wait_seconds=0.1, deadline_seconds=0.1)
    second: list[pgdibs.Lease] = []
    thread = threading.Thread(target=lambda: second.append(client.lease(pool_of_one)))
    thread.start()
    eventually(lambda: client.status()["waiters"])
    first.release()
    thread.join(60)
    assert second[0].waited_seconds > 0 and table_exists(second[0], "notes")
    second[0].release()


def test_reset_survives_restart_of_killed_daemon(client: pgdibs.Client, pool: str, daemon: Daemon) -> None:
    with client.lease(pool, run="r4", worker="gw0") as lease:
        psql(lease.url, "insert into notes values (7)")
        daemon.process.kill()
        restart = threading.Thread(target=daemon.start)
        restart.start()
        lease.reset()
        restart.join()
        assert lease.generation == 2 and lease.lost is None
        assert psql(lease.url, "select count(*) from notes") == "0"
        assert [live["id"] for live in client.leases(pool=pool)] == [lease.id]


def test_release_with_unreachable_daemon_does_not_raise(client: pgdibs.Client, pool: str, daemon: Daemon) -> None:
    lease = client.lease(pool)
    daemon.process.kill()
    started = time.monotonic()
    try:
        lease.release()
        assert time.monotonic() - started < 15
    finally:
        daemon.start()
    client.call("DELETE", f"/v1/leases/{lease.id}")


def test_wrong_token_raises_error_about_token() -> None:
    daemon = Daemon(PGDIBS_TOKEN="s3cret=+/")
    try:
        for token in (None, "wrong"):
            with pytest.raises(errors.Unauthorized, match=r"[Tt]oken"):
                pgdibs.Client(daemon.url, token).put_pool("p")
        assert pgdibs.Client(daemon.url, "s3cret=+/").put_pool("p")["pool"] == "p"
    finally:
        daemon.remove()


def test_ctrl_c_during_wait_leaves_no_waiter(client: pgdibs.Client, pool_of_one: str) -> None:
    with client.lease(pool_of_one):
        code = "import sys, pgdibs; pgdibs.Client(sys.argv[1]).lease(sys.argv[2])"
        waiting = python(code, client.url, pool_of_one)
        eventually(lambda: client.status()["waiters"])
        waiting.send_signal(2)
        _status, _out, err = finished(waiting, 30)
        assert err.rstrip().endswith("KeyboardInterrupt")
        eventually(lambda: not client.status()["waiters"])


def test_end_of_process_releases_leases_with_heartbeat(client: pgdibs.Client, pool: str) -> None:
    code = "import sys, pgdibs; lease = pgdibs.Client(sys.argv[1]).lease(sys.argv[2]); print(lease.id); {}"
    for end, status in (("", 0), ("raise SystemExit(3)", 3), ("open('/no/such')", 1)):
        ended = finished(python(code.format(end), client.url, pool))
        assert ended[0] == status and "Exception ignored" not in ended[2], ended
        assert client.call("GET", f"/v1/leases/{ended[1].strip()}")["state"] == "released"
    left = finished(python(code.format("").replace("[2])", "[2], heartbeat=False)"), client.url, pool))
    assert [lease["id"] for lease in client.leases(pool=pool)] == [left[1].strip()]
    client.call("DELETE", f"/v1/leases/{left[1].strip()}")


def test_program_and_daemon_have_same_version(client: pgdibs.Client) -> None:
    done = subprocess.run([program(), "--version"], check=True, stdout=subprocess.PIPE, text=True, timeout=10)
    assert done.stdout.split()[-1] == client.status()["daemon"]["version"]
