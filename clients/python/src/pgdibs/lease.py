"""A leased database: its URL, and renew, reset, keep and release."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import quote

from pgdibs import granted as granted_databases
from pgdibs.calls import DEADLINE_SECONDS, Caller
from pgdibs.errors import LeaseEnded, PgdibsError, of_answer
from pgdibs.heartbeat import heartbeat as process_heartbeat
from pgdibs.heartbeat import warn
from pgdibs.urls import with_driver

if TYPE_CHECKING:
    from types import TracebackType

RELEASE_SECONDS = 10.0
"""How long a release waits for an answer, repetitions included."""


@dataclass(frozen=True)
class KeptDatabase:
    """A database that the daemon keeps until the time in `until` (RFC 3339, UTC); `url` has a login of its own."""

    database: str
    url: str
    until: str


class Lease:
    """A database for this process alone until `release`, the end of a `with` block, or the end of the process.

    With a heartbeat (the default) a thread renews the lease at a third of its `ttl_seconds`, and the end of the process releases
    it. The lease belongs to the process that acquired it: a forked child may connect to `url`, but cannot renew or release
    the lease.
    """

    def __init__(self, client: Caller, granted: dict[str, Any], heartbeat: bool = True, via: Optional[str] = None) -> None:
        self._client = client
        # The URL of a kept database uses the same address.
        self._via = f"?via={quote(via, safe='')}" if via else ""
        self._path = f"/v1/leases/{quote(granted['id'], safe='')}"
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._is_released = False
        self.id: str = granted["id"]
        self.url: str = granted["url"]
        granted_databases.add(self.url)
        self.database: str = granted["database"]
        self.slot: int = granted["slot"]
        """A small integer, unique among the live leases of the pool."""
        self.host: str = granted["host"]
        self.port: int = granted["port"]
        self.user: str = granted["user"]
        self.password: str = granted["password"]
        self.generation: int = granted["generation"]
        """Starts at 1; each reset adds 1."""
        self.pool: str = granted["pool"]
        self.fingerprint: str = granted["fingerprint"]
        self.run: Optional[str] = granted.get("run")
        self.worker: Optional[str] = granted.get("worker")
        self.alias: str = granted.get("alias") or "default"
        self.waited_seconds: float = granted.get("waited_seconds", 0.0)
        """The seconds that the request waited at the daemon."""
        self.ttl_seconds: float = granted["ttl_seconds"]
        self.renew_after_seconds: float = granted["renew_after_seconds"]
        self.lost: Optional[PgdibsError] = None
        """The error with which the lease was lost; None while it is live. The heartbeat or a call sets it."""
        if heartbeat:
            process_heartbeat.add(self)

    def renew(self) -> None:
        """Renew the lease; the heartbeat does so on its own. Raises `LeaseEnded` if the lease has ended."""
        self._call("renew", {})

    def reset(self, wait_seconds: float = 30.0, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Put a clean database behind the same URL. The daemon ends every session on the old database.

        The daemon lets one request wait `wait_seconds` for a spare; the client repeats it until the deadline. After an error of
        the daemon the old database is untouched. Without an answer the call can be repeated: it does not reset twice.
        """
        with self._lock:
            answer = self._call("reset", {"generation": self.generation, "wait_seconds": wait_seconds}, deadline_seconds)
            self.generation = answer["generation"]

    def keep(self, seconds: int = 3600, reason: str = "") -> KeptDatabase:
        """Keep the database for so many seconds. It leaves the lease at the next reset or release."""
        kept = self._call("keep", {"seconds": seconds, "reason": reason})
        granted_databases.add(kept["kept_url"])
        return KeptDatabase(kept["kept_database"], kept["kept_url"], kept["kept_until"])

    def release(self) -> None:
        """Release the lease. Does nothing when called again, or in a forked child.

        Does not raise if the daemon is unreachable or answers with an error: the lease then ends `ttl_seconds` after its last
        renewal.
        """
        if not self._begin_release():
            return
        deadline = time.monotonic() + RELEASE_SECONDS
        while True:
            try:
                answer = self._client.ask("DELETE", self._path, timeout=RELEASE_SECONDS)
            except PgdibsError:
                return
            if answer.retry_after is None or time.monotonic() + answer.retry_after > deadline:
                break
            # A daemon that has just restarted may not have its server yet; it names the pause.
            time.sleep(answer.retry_after)
        if answer.status >= 400 and answer.status not in (404, 410):
            warn(f"the lease on {self.database} was not released and ends by itself: {of_answer(answer.status, answer.body)}")

    def send_release(self) -> None:
        """Like `release`, but do not wait for the daemon's answer. For a process that is about to end.

        The daemon releases the lease even if this process ends before it reads the request.
        """
        if self._begin_release():
            # Also the errors of plugins that forbid sockets. A lease that is not released ends by itself.
            with suppress(Exception):
                self._client.send("DELETE", self._path, None, RELEASE_SECONDS, is_last=True)

    def _begin_release(self) -> bool:
        """Whether there is a lease to release; it counts as released from now on."""
        if self._is_released or os.getpid() != self._process:
            return False
        self._is_released = True
        process_heartbeat.remove(self)
        return self.lost is None

    def release_at_exit(self) -> None:
        """Release the lease at the end of the interpreter, and close the connection that this used."""
        self.release()
        # Finalizers of connections do not run any more.
        self._client.close()

    def url_for(self, driver: str) -> str:
        """The URL with another scheme, as in `postgresql+asyncpg`."""
        return with_driver(self.url, driver)

    def env(self) -> dict[str, str]:
        """`DATABASE_URL` and libpq's variables."""
        return {
            "DATABASE_URL": self.url,
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
        }

    def django(self) -> dict[str, Any]:
        """The connection keys of an entry of Django's DATABASES; update the entry in place with them."""
        return {"NAME": self.database, "USER": self.user, "PASSWORD": self.password, "HOST": self.host, "PORT": str(self.port)}

    def move_to(self, client: Caller) -> None:
        """Use the connections of another client from now on."""
        self._client = client

    def try_renew(self) -> Optional[float]:
        """Renew once, for the heartbeat. Returns the seconds until the next renewal, or None if the lease has ended."""
        timeout = max(1.0, min(RELEASE_SECONDS, self.renew_after_seconds))
        answer = self._client.ask("POST", f"{self._path}/renew", {}, timeout)
        if answer.status == 200:
            return self.renew_after_seconds
        error = of_answer(answer.status, answer.body)
        if answer.status in (404, 410):
            self._lose(error)
            return None
        if answer.retry_after is not None:
            return answer.retry_after
        raise error

    def _call(self, verb: str, body: dict[str, Any], deadline_seconds: float = DEADLINE_SECONDS) -> Any:
        if os.getpid() != self._process:
            raise PgdibsError(
                f"the lease on {self.database} belongs to process {self._process}, from which this one was forked; "
                f"a forked process may use its URL, but only its owner may {verb} it: lease a database in this process"
            )
        if self.lost is not None:
            raise self.lost
        if self._is_released:
            raise LeaseEnded(f"the lease on {self.database} was released here; take a new one", "lease_ended")
        try:
            return self._client.call_through_restarts("POST", f"{self._path}/{verb}{self._via}", body, deadline_seconds).body
        except PgdibsError as error:
            if error.code in ("lease_ended", "lease_not_found"):
                self._lose(error)
            raise

    def _lose(self, error: PgdibsError) -> None:
        if self._is_released or self.lost is not None:
            return
        self.lost = error
        process_heartbeat.remove(self)
        warn(f"the lease on {self.database} was lost, so results of tests on it are invalid: {error}")

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "lost" if self.lost is not None else "released" if self._is_released else "live"
        return f"<pgdibs.Lease {self.id} on {self.database}, {state}>"
