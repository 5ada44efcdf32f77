"""The client for asyncio: the same calls, awaited. Each runs in a thread of the client's own executor.

A call that is cancelled hangs up, so that the daemon gives its place to the next; a lease that was granted all the same is
released.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from pgdibs.client import Client, LeaseRequest
from pgdibs.errors import PgdibsError
from pgdibs.lease import DEADLINE_SECONDS, KeptDatabase, Lease
from pgdibs.templates import TemplateReady

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

THREADS = 32
"""How many calls of one client are under way at once; more wait for their turn here."""


class AsyncLease:
    """A `Lease` whose calls are awaited. What needs no call is the lease's own: `.url`, `.database`, `.env()`, `.lost`, …"""

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
        """How the lease ended although it was not released here; None while all is well."""
        return self.lease.lost

    async def renew(self) -> None:
        """Like `Lease.renew`."""
        await self._client.run(self.lease.renew)

    async def reset(self, wait_seconds: float = 30.0, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Like `Lease.reset`. Cancelled, it may or may not have happened; calling it again does not reset twice."""
        await self._client.run(lambda: self.lease.reset(wait_seconds, deadline_seconds))

    async def keep(self, seconds: int = 3600, reason: str = "") -> KeptDatabase:
        """Like `Lease.keep`."""
        return await self._client.run(lambda: self.lease.keep(seconds, reason))

    async def release(self) -> None:
        """Like `Lease.release`; it is done also when this is cancelled."""
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
    """A `Client` whose calls are awaited; its arguments, answers and errors are the same."""

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, via: Optional[str] = None) -> None:
        self.client = Client(url, token, via)
        """The client whose connections the leases use."""
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="pgdibs-async")

    @property
    def url(self) -> str:
        """The daemon's address."""
        return self.client.url

    async def lease(self, pool: str, **wanted: Any) -> AsyncLease:
        """Like `Client.lease`, with its keyword arguments. `async with await client.lease(…) as lease:`"""
        lease = await self._grant(lambda client: [client.lease(pool, **wanted)])
        return AsyncLease(self, lease[0])

    async def batch(self, requests: Sequence[LeaseRequest], **wanted: Any) -> list[AsyncLease]:
        """Like `Client.batch`, with its keyword arguments."""
        leases = await self._grant(lambda client: client.batch(requests, **wanted))
        return [AsyncLease(self, lease) for lease in leases]

    async def ensure_template(self, pool: str, fingerprint: str, build: Callable[[str], None], **wanted: Any) -> TemplateReady:
        """Like `Client.ensure_template`; `build` is an ordinary function, and is called in a thread. It cannot be cancelled."""
        return await self.run(lambda: self.client.ensure_template(pool, fingerprint, build, **wanted))

    async def call(self, method: str, path: str, body: Optional[dict[str, Any]] = None) -> Any:
        """Like `Client.call`."""
        return await self.run(lambda: self.client.call(method, path, body))

    async def put_pool(self, pool: str, **settings: Any) -> dict[str, Any]:
        """Like `Client.put_pool`."""
        return await self.run(lambda: self.client.put_pool(pool, **settings))

    async def end_run(self, run: str) -> int:
        """Like `Client.end_run`."""
        return await self.run(lambda: self.client.end_run(run))

    async def leases(self, **filters: str) -> list[dict[str, Any]]:
        """Like `Client.leases`."""
        return await self.run(lambda: self.client.leases(**filters))

    async def status(self) -> dict[str, Any]:
        """Like `Client.status`."""
        return await self.run(self.client.status)

    async def close(self) -> None:
        """End the threads; leases are not released by this, but when the process ends, as always."""
        self._executor.shutdown(wait=False)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def run(self, call: Callable[[], T]) -> T:
        """Await a call that is done in a thread; it goes on there when this is cancelled."""
        try:
            future = self._executor.submit(call)
        except RuntimeError as error:
            raise PgdibsError("this client is closed; make a new one") from error
        return await asyncio.wrap_future(_unstoppable(future))

    async def _grant(self, ask: Callable[[Client], list[Lease]]) -> list[Lease]:
        """A call that may wait long and whose answer must not be lost: over a client of its own, which can be hung up on."""
        asker = self.client.twin()
        lock, is_cancelled = threading.Lock(), False
        granted: list[Lease] = []

        def wait() -> list[Lease]:
            leases = ask(asker)
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
            # Granted, but nobody was told: between the answer and this line.
            threading.Thread(target=release, args=(list(granted),), name="pgdibs-release").start()
            raise
        finally:
            asker.abort()


def release(leases: Sequence[Lease]) -> None:
    """Give all of them back."""
    for lease in leases:
        lease.release()


def _unstoppable(inner: Future[T]) -> Future[T]:
    """A future that is set when `inner` is, and whose cancellation is not that of `inner`."""
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
