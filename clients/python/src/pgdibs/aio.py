"""The client for asyncio: the calls of `Client`, each run in a thread of the client's own executor.

A cancelled acquire closes its connection, so that the daemon removes its waiter. If the daemon has granted a lease by then, the
client releases it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from pgdibs.calls import DEADLINE_SECONDS
from pgdibs.client import Client, LeaseRequest
from pgdibs.errors import PgdibsError
from pgdibs.lease import KeptDatabase, Lease
from pgdibs.templates import TemplateReady

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

THREADS = 32
"""How many calls of one client run at once; further calls wait in the client."""


class AsyncLease:
    """A `Lease` whose calls are awaited. Its other attributes are the lease's: `.url`, `.database`, `.env()`, `.lost`, …"""

    def __init__(self, client: AsyncClient, lease: Lease) -> None:
        self._client = client
        self.lease = lease
        """The lease itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lease, name)

    @property
    def url(self) -> str:
        """The URL of the leased database."""
        return self.lease.url

    @property
    def lost(self) -> Optional[PgdibsError]:
        """The error with which the lease was lost; None while it is live."""
        return self.lease.lost

    async def renew(self) -> None:
        """Like `Lease.renew`."""
        await self._client.run(self.lease.renew)

    async def reset(self, wait_seconds: float = 30.0, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Like `Lease.reset`. A cancelled reset may or may not happen; calling it again does not reset twice."""
        await self._client.run(lambda: self.lease.reset(wait_seconds, deadline_seconds))

    async def keep(self, seconds: int = 3600, reason: str = "") -> KeptDatabase:
        """Like `Lease.keep`."""
        return await self._client.run(lambda: self.lease.keep(seconds, reason))

    async def release(self) -> None:
        """Like `Lease.release`. Cancelling the call does not stop the release."""
        await self._client.run(self.lease.release)

    async def __aenter__(self) -> AsyncLease:
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.release()

    def __repr__(self) -> str:
        return f"<pgdibs.AsyncLease {self.lease.id} on {self.lease.database}>"


class AsyncClient:
    """A `Client` whose calls are awaited, with the same arguments, answers and errors."""

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, via: Optional[str] = None) -> None:
        self.client = Client(url, token, via)
        """The synchronous client, whose connections the leases use."""
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="pgdibs-async")

    @property
    def url(self) -> str:
        """The daemon's address."""
        return self.client.url

    async def lease(self, pool: str, **options: Any) -> AsyncLease:
        """Like `Client.lease`, with its keyword arguments. `async with await client.lease(…) as lease:`"""
        lease = await self._grant(lambda client: [client.lease(pool, **options)])
        return AsyncLease(self, lease[0])

    async def batch(self, requests: Sequence[LeaseRequest], **options: Any) -> list[AsyncLease]:
        """Like `Client.batch`, with its keyword arguments."""
        leases = await self._grant(lambda client: client.batch(requests, **options))
        return [AsyncLease(self, lease) for lease in leases]

    async def ensure_template(self, pool: str, fingerprint: str, build: Callable[[str], None], **options: Any) -> TemplateReady:
        """Like `Client.ensure_template`. Calls `build`, an ordinary function, in a thread; the call cannot be cancelled."""
        return await self.run(lambda: self.client.ensure_template(pool, fingerprint, build, **options))

    async def call(self, method: str, path: str, body: Optional[dict[str, Any]] = None) -> Any:
        """Like `Client.call`."""
        return await self.run(lambda: self.client.call(method, path, body))

    async def put_pool(self, pool: str, **settings: Any) -> dict[str, Any]:
        """Like `Client.put_pool`."""
        return await self.run(lambda: self.client.put_pool(pool, **settings))

    async def end_run(self, run: str) -> int:
        """Like `Client.end_run`."""
        return await self.run(lambda: self.client.end_run(run))

    async def report_run(self, run: str, **report: Any) -> None:
        """Like `Client.report_run`."""
        await self.run(lambda: self.client.report_run(run, **report))

    async def runs(self, pool: Optional[str] = None) -> list[dict[str, Any]]:
        """Like `Client.runs`."""
        return await self.run(lambda: self.client.runs(pool))

    async def leases(self, **filters: str) -> list[dict[str, Any]]:
        """Like `Client.leases`."""
        return await self.run(lambda: self.client.leases(**filters))

    async def status(self) -> dict[str, Any]:
        """Like `Client.status`."""
        return await self.run(self.client.status)

    async def close(self) -> None:
        """End the threads. Does not release leases; the end of the process does."""
        self._executor.shutdown(wait=False)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def run(self, call: Callable[[], T]) -> T:
        """Await a call that runs in a thread. Cancelling `run` does not stop the call."""
        try:
            future = self._executor.submit(call)
        except RuntimeError as error:
            raise PgdibsError("this client is closed; make a new one") from error
        return await asyncio.wrap_future(_uncancellable(future))

    async def _grant(self, acquire: Callable[[Client], list[Lease]]) -> list[Lease]:
        """Acquire over a client of its own, so that a cancellation can close its connection; no granted lease is lost."""
        client = self.client.clone()
        lock, is_cancelled = threading.Lock(), False
        granted: list[Lease] = []

        def wait() -> list[Lease]:
            leases = acquire(client)
            for lease in leases:
                lease.move_to(self.client)
            with lock:
                if not is_cancelled:
                    granted.extend(leases)
                    return leases
            release(leases)
            return []

        try:
            return await self.run(wait)
        except asyncio.CancelledError:
            with lock:
                is_cancelled = True
            # The thread may have got a lease after the cancellation.
            threading.Thread(target=release, args=(list(granted),), name="pgdibs-release").start()
            raise
        finally:
            client.abort()


def release(leases: Sequence[Lease]) -> None:
    """Release all of them."""
    for lease in leases:
        lease.release()


def _uncancellable(inner: Future[T]) -> Future[T]:
    """A future with the result of `inner`; cancelling it does not cancel `inner`."""
    outer: Future[T] = Future()

    def copy(done: Future[T]) -> None:
        if not outer.set_running_or_notify_cancel():
            return
        error = done.exception()
        if error is not None:
            outer.set_exception(error)
        else:
            outer.set_result(done.result())

    inner.add_done_callback(copy)
    return outer
