"""The client for asyncio: it has all calls, and a cancelled call leaves neither a waiter nor a lease."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from support import eventually, make_schema, table_exists

import pgdibs
from pgdibs import errors


def test_async_client_has_all_calls(client: pgdibs.Client, empty_pool: str) -> None:
    async def main() -> None:
        async with pgdibs.AsyncClient(client.url) as aio:
            assert (await aio.put_pool(empty_pool, warm=2))["warm"] == 2
            assert not (await aio.ensure_template(empty_pool, "v1", make_schema)).reused
            async with await aio.lease(empty_pool, run="a1", worker="gw0") as lease:
                assert lease.url == lease.lease.url and lease.database.startswith(empty_pool)
                await lease.reset()
                assert lease.generation == 2 and table_exists(lease.lease, "notes")
                kept = await lease.keep(60, "why")
                await lease.renew()
                assert lease.lost is None and lease.url_for("postgresql+asyncpg").startswith("postgresql+asyncpg://")
                assert [live["id"] for live in await aio.leases(pool=empty_pool)] == [lease.id]
            assert await aio.leases(pool=empty_pool) == []
            assert kept.url
            batch = await aio.batch([pgdibs.LeaseRequest(empty_pool, run="a2", alias=alias) for alias in ("x", "y")])
            assert [lease.alias for lease in batch] == ["x", "y"]
            assert await aio.end_run("a2") == 2
            for lease in batch:
                await lease.release()
            with pytest.raises(errors.PoolNotFound):
                await aio.lease("no_such")
            assert (await aio.status())["daemon"]["ready"] and await aio.call("GET", "/v1/pools")
        with pytest.raises(pgdibs.PgdibsError, match="closed"):
            await aio.status()

    asyncio.run(main())


def test_waiting_call_does_not_block_others(client: pgdibs.Client, pool_of_one: str) -> None:
    async def main() -> None:
        aio = pgdibs.AsyncClient(client.url)
        first = await aio.lease(pool_of_one)
        second = asyncio.ensure_future(aio.lease(pool_of_one))
        started = time.monotonic()
        while not (await aio.status())["waiters"]:
            await asyncio.sleep(0.01)  # the pause between two polls
        assert time.monotonic() - started < 10 and not second.done()
        await first.release()
        await (await second).release()
        await aio.close()

    asyncio.run(main())


def test_cancelled_wait_leaves_no_waiter(client: pgdibs.Client, pool_of_one: str) -> None:

    async def main() -> None:
        aio = pgdibs.AsyncClient(client.url)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(aio.lease(pool_of_one), 0.5)
        await aio.close()

    with client.lease(pool_of_one):
        asyncio.run(main())
        eventually(lambda: not client.status()["waiters"])
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("pgdibs-async")])


def test_lease_granted_during_cancellation_is_released(client: pgdibs.Client, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    is_granted, may_continue, move_to = threading.Event(), threading.Event(), pgdibs.Lease.move_to

    def block(lease: pgdibs.Lease, other: pgdibs.Client) -> None:
        move_to(lease, other)
        is_granted.set()
        may_continue.wait(60)

    monkeypatch.setattr(pgdibs.Lease, "move_to", block)

    async def main() -> None:
        aio = pgdibs.AsyncClient(client.url)
        acquire = asyncio.ensure_future(aio.lease(pool))
        await asyncio.get_running_loop().run_in_executor(None, is_granted.wait, 60)
        acquire.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acquire
        may_continue.set()
        await aio.close()

    asyncio.run(main())
    eventually(lambda: not client.leases(pool=pool))


def test_lease_granted_before_cancellation_is_released(client: pgdibs.Client, pool: str) -> None:
    async def main() -> None:
        aio = pgdibs.AsyncClient(client.url)
        acquire = asyncio.ensure_future(aio.lease(pool))
        await asyncio.sleep(0)
        # This blocks the event loop until the thread has the lease and has ended the call.
        eventually(lambda: client.leases(pool=pool))
        eventually(lambda: aio._executor._idle_semaphore.acquire(timeout=0))
        acquire.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acquire
        await aio.close()

    asyncio.run(main())
    eventually(lambda: not client.leases(pool=pool))


@pytest.mark.parametrize("after_milliseconds", [0, 1, 2, 3, 5, 8, 15])
def test_cancelled_acquire_leaves_no_lease(client: pgdibs.Client, pool: str, after_milliseconds: int) -> None:
    """Cancel before, during and after the grant; if the caller gets the lease, it releases it."""
    # The daemon grants a ready database within these milliseconds.
    client.put_pool(pool, warm=1)
    eventually(lambda: client.call("GET", f"/v1/pools/{pool}")["counts"]["ready"])

    async def main() -> bool:
        aio = pgdibs.AsyncClient(client.url)
        acquire = asyncio.ensure_future(aio.lease(pool, ttl_seconds=5))
        await asyncio.sleep(after_milliseconds / 1000)
        acquire.cancel()
        try:
            await (await acquire).release()
        except asyncio.CancelledError:
            return True
        finally:
            await aio.close()
        return False

    asyncio.run(main())
    # The daemon may grant until it notices the closed connection. It does not between the two writes of an answer; then the
    # lease expires. A lease that the client renews without a caller would never end.
    eventually(lambda: not client.status()["waiters"] and not client.leases(pool=pool))
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "pgdibs-heartbeat"])
