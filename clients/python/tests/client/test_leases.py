"""Leases of a real daemon: taken, reset, kept, renewed, given back, in a batch, and through a restart of the daemon."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest
from support import Daemon, eventually, finished, program, psql, python, table_exists

import pgdibs
from pgdibs import errors


def test_a_lease_is_a_clean_database_until_the_block_ends(client: pgdibs.Client, pool: str) -> None:
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


def test_the_same_run_worker_and_alias_get_the_same_lease(client: pgdibs.Client, pool: str) -> None:
    with client.lease(pool, run="r1", worker="gw0") as lease:
        psql(lease.url, "insert into notes values (1)")
        again = client.lease(pool, run="r1", worker="gw0", heartbeat=False)
        assert (again.id, again.url) == (lease.id, lease.url)
        fresh = client.lease(pool, run="r1", worker="gw0", heartbeat=False, fresh=True)
        assert (fresh.id, fresh.generation) == (lease.id, 2)
        assert psql(lease.url, "select count(*) from notes") == "0"


def test_a_reset_brings_a_clean_database_behind_the_same_url(client: pgdibs.Client, pool: str) -> None:
    with client.lease(pool) as lease:
        url = lease.url
        for generation in (2, 3, 4):
            psql(lease.url, f"create table dirt{generation} ()")
            lease.reset()
            assert (lease.generation, lease.url) == (generation, url)
            assert not table_exists(lease, f"dirt{generation}") and table_exists(lease, "notes")


def test_two_threads_reset_one_after_the_other(client: pgdibs.Client, pool: str) -> None:
    with client.lease(pool) as lease:
        threads = [threading.Thread(target=lease.reset) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lease.generation == 3


# Regression: the URL of a kept database and of a build had the default address, whatever `via` the lease had (found by
# running the example's suite inside the compose network).
def test_inside_another_network_the_server_has_the_name_that_via_picks(
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

    def give_up(url: str) -> None:
        raise LookupError(url)

    with pytest.raises(LookupError, match=r"@db\.internal:5433/"):
        inside.ensure_template(pool, "seen from inside", give_up)
    monkeypatch.setenv("PGDIBS_VIA", "moon")
    with pytest.raises(pgdibs.PgdibsError, match="PGDIBS_ADVERTISE"):
        pgdibs.Client(daemon.url).lease(pool)


def test_a_kept_database_stays_as_it_was(client: pgdibs.Client, pool: str) -> None:
    with client.lease(pool) as lease:
        psql(lease.url, "insert into notes values (42)")
        kept = lease.keep(seconds=60, reason="a test failed")
        lease.reset()
        assert psql(lease.url, "select count(*) from notes") == "0"
    assert psql(kept.url, "select id from notes") == "42"
    assert kept.database.startswith(f"{pool}_kept_") and kept.until.endswith("Z")
    client.call("DELETE", f"/v1/databases/{kept.database}")


def test_a_batch_is_all_or_none_in_its_order(client: pgdibs.Client, pool: str) -> None:
    requests = [pgdibs.LeaseRequest(pool, run="r2", worker="gw0", alias=alias) for alias in ("b", "a", "c")]
    leases = client.batch(requests)
    assert [lease.alias for lease in leases] == ["b", "a", "c"]
    assert len({lease.slot for lease in leases}) == len({lease.database for lease in leases}) == 3
    with pytest.raises(errors.PoolExhausted):
        client.batch([pgdibs.LeaseRequest(pool), pgdibs.LeaseRequest(pool)], wait_seconds=0.1, deadline_seconds=0.2)
    assert len(client.leases(pool=pool)) == 3
    for lease in leases:
        lease.release()


def test_a_run_is_announced_and_ends_with_all_it_holds(client: pgdibs.Client, pool: str) -> None:
    assert client.announce("r3", pool, 2)["workers"] == 2
    with pytest.raises(errors.CapacityExceeded, match="max"):
        client.announce("r3", pool, 500)
    client.lease(pool, run="r3", worker="gw0", heartbeat=False)
    assert client.end_run("r3") == 1
    with pytest.raises(errors.RunEnded):
        client.lease(pool, run="r3", worker="gw0")


def test_mistakes_are_typed_and_say_what_to_do(client: pgdibs.Client, empty_pool: str) -> None:
    with pytest.raises(errors.PoolNotFound, match='there is no pool "no_such"; make it with'):
        client.lease("no_such")
    with pytest.raises(errors.TemplateNotFound, match="has no template yet"):
        client.lease(empty_pool)
    with pytest.raises(errors.InvalidRequest, match="ttl_seconds"):
        client.lease(empty_pool, ttl_seconds=0)
    with pytest.raises(errors.InvalidRequest, match="pool"):
        client.put_pool("No Such/Name?")


def test_whoever_waits_gets_the_database_that_comes_back(client: pgdibs.Client, pool: str) -> None:
    client.put_pool(pool, max=1)
    first = client.lease(pool, holder="the first")
    with pytest.raises(errors.PoolExhausted, match="the first"):
        client.lease(pool, wait_seconds=0.1, deadline_seconds=0.1)
    second: list[pgdibs.Lease] = []
    thread = threading.Thread(target=lambda: second.append(client.lease(pool)))
    thread.start()
    eventually(lambda: client.status()["waiters"])
    first.release()
    thread.join(60)
    assert second[0].waited_seconds > 0 and table_exists(second[0], "notes")
    second[0].release()


def test_a_daemon_that_is_killed_and_comes_back_is_not_noticed(client: pgdibs.Client, pool: str, daemon: Daemon) -> None:
    with client.lease(pool, run="r4", worker="gw0") as lease:
        psql(lease.url, "insert into notes values (7)")
        daemon.process.kill()
        back = threading.Thread(target=daemon.start)
        back.start()
        lease.reset()
        back.join()
        assert lease.generation == 2 and lease.lost is None
        assert psql(lease.url, "select count(*) from notes") == "0"
        assert [live["id"] for live in client.leases(pool=pool)] == [lease.id]


def test_a_release_does_not_mind_that_the_daemon_is_away(client: pgdibs.Client, pool: str, daemon: Daemon) -> None:
    lease = client.lease(pool)
    daemon.process.kill()
    started = time.monotonic()
    try:
        lease.release()
        assert time.monotonic() - started < 15
    finally:
        daemon.start()
    client.call("DELETE", f"/v1/leases/{lease.id}")


def test_a_wrong_token_is_an_error_that_names_the_token() -> None:
    guarded = Daemon(PGDIBS_TOKEN="s3cret=+/")
    try:
        for token in (None, "wrong"):
            with pytest.raises(errors.Unauthorized, match=r"[Tt]oken"):
                pgdibs.Client(guarded.url, token).put_pool("p")
        assert pgdibs.Client(guarded.url, "s3cret=+/").put_pool("p")["pool"] == "p"
    finally:
        guarded.remove()


def test_ctrl_c_while_waiting_ends_at_once_and_leaves_no_waiter(client: pgdibs.Client, pool: str) -> None:
    client.put_pool(pool, max=1)
    with client.lease(pool):
        code = "import sys, pgdibs; pgdibs.Client(sys.argv[1]).lease(sys.argv[2])"
        waiting = python(code, client.url, pool)
        eventually(lambda: client.status()["waiters"])
        waiting.send_signal(2)
        _status, _out, err = finished(waiting, 30)
        assert err.rstrip().endswith("KeyboardInterrupt")
        eventually(lambda: not client.status()["waiters"])


def test_what_a_process_still_has_when_it_ends_goes_back_at_once(client: pgdibs.Client, pool: str) -> None:
    code = "import sys, pgdibs; lease = pgdibs.Client(sys.argv[1]).lease(sys.argv[2]); print(lease.id); {}"
    for end, status in (("", 0), ("raise SystemExit(3)", 3), ("open('/no/such')", 1)):
        ended = finished(python(code.format(end), client.url, pool))
        assert ended[0] == status and "Exception ignored" not in ended[2], ended
        assert client.call("GET", f"/v1/leases/{ended[1].strip()}")["state"] == "released"
    left = finished(python(code.format("").replace("[2])", "[2], heartbeat=False)"), client.url, pool))
    assert [lease["id"] for lease in client.leases(pool=pool)] == [left[1].strip()]
    client.call("DELETE", f"/v1/leases/{left[1].strip()}")


def test_the_program_and_the_client_are_of_one_version(client: pgdibs.Client) -> None:
    done = subprocess.run([program(), "--version"], check=True, stdout=subprocess.PIPE, text=True, timeout=10)
    assert done.stdout.split()[-1] == client.status()["daemon"]["version"]
