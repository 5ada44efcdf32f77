"""A leased database: its URL, and what can be done with it until it is released."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import quote

from pgdibs import granted as granted_databases
from pgdibs.errors import LeaseEnded, PgdibsError, of_answer
from pgdibs.heartbeat import heartbeat as process_heartbeat
from pgdibs.heartbeat import say
from pgdibs.urls import with_driver

if TYPE_CHECKING:
    from types import TracebackType

    from pgdibs.client import Client

DEADLINE_SECONDS = 180.0
"""How long a call goes on asking while the daemon says "try again"."""

RELEASE_SECONDS = 10.0
"""How long a release waits for the daemon's answer, and asks again when it is told to."""


@dataclass(frozen=True)
class KeptDatabase:
    """A database that stays as it is until the time in `until` (RFC 3339, UTC); `url` has a login of its own."""

    database: str
    url: str
    until: str


class Lease:
    """A database that is ours alone until `release`, the end of a `with` block, or the end of the process.

    With a heartbeat (the default) a thread renews it at a third of its `ttl_seconds`, and the process releases it when it ends.
    It belongs to the process that took it: a forked child may connect to `url`, but does not renew or release it.
    """

    def __init__(self, client: Client, granted: dict[str, Any], heartbeat: bool = True, via: Optional[str] = None) -> None:
        self._client = client
        # What is handed out later, a kept database, has the same way to the server.
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
        """A small integer that no other live lease of the pool has."""
        self.host: str = granted["host"]
        self.port: int = granted["port"]
        self.user: str = granted["user"]
        self.password: str = granted["password"]
        self.generation: int = granted["generation"]
        """1, and one more with each reset."""
        self.pool: str = granted["pool"]
        self.fingerprint: str = granted["fingerprint"]
        self.run: Optional[str] = granted.get("run")
        self.worker: Optional[str] = granted.get("worker")
        self.alias: str = granted.get("alias") or "default"
        self.waited_seconds: float = granted.get("waited_seconds", 0.0)
        """How long the daemon let the request wait."""
        self.ttl_seconds: float = granted["ttl_seconds"]
        self.renew_after_seconds: float = granted["renew_after_seconds"]
        self.lost: Optional[PgdibsError] = None
        """How the lease ended although it was not released here; None while all is well. Set by the heartbeat or a call."""
        if heartbeat:
            process_heartbeat.add(self)

    def renew(self) -> None:
        """A sign of life; the heartbeat gives them by itself. Raises `LeaseEnded` when the lease is over."""
        self._call("renew", {})

    def reset(self, wait_seconds: float = 30.0, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """A clean database behind the same URL; every session on the old one is ended.

        One request waits `wait_seconds` for a spare, and again until the deadline. After an error the old database is untouched,
        or, when no answer came, the call can be repeated: it does not reset twice.
        """
        with self._lock:
            answer = self._call("reset", {"generation": self.generation, "wait_seconds": wait_seconds}, deadline_seconds)
            self.generation = answer["generation"]

    def keep(self, seconds: int = 3600, reason: str = "") -> KeptDatabase:
        """Keep the database as it is, for so many seconds: it leaves at the next reset or end, under this name."""
        kept = self._call("keep", {"seconds": seconds, "reason": reason})
        granted_databases.add(kept["kept_url"])
        return KeptDatabase(kept["kept_database"], kept["kept_url"], kept["kept_until"])

    def release(self) -> None:
        """Give the database back. Does nothing when called again, or in a forked child.

        Never raises because of a daemon: when it is away, or refuses, the lease ends `ttl_seconds` after its last renewal.
        """
        if self._is_released or os.getpid() != self._process:
            return
        self._is_released = True
        process_heartbeat.remove(self)
        if self.lost is not None:
            return
        deadline = time.monotonic() + RELEASE_SECONDS
        while True:
            try:
                answer = self._client.ask("DELETE", self._path, timeout=RELEASE_SECONDS)
            except PgdibsError:
                return
            if answer.retry_after is None or time.monotonic() + answer.retry_after > deadline:
                break
            # A daemon that has just been started again may not have its server yet; it says how long that takes.
            time.sleep(answer.retry_after)
        if answer.status >= 400 and answer.status not in (404, 410):
            say(f"the lease on {self.database} was not released and ends by itself: {of_answer(answer.status, answer.body)}")

    def url_for(self, driver: str) -> str:
        """The URL with another scheme, as `postgresql+asyncpg`."""
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
        """The keys of an entry of Django's DATABASES that say where to connect; update the entry in place with them."""
        return {"NAME": self.database, "USER": self.user, "PASSWORD": self.password, "HOST": self.host, "PORT": str(self.port)}

    def move_to(self, client: Client) -> None:
        """Go on over another client's connections."""
        self._client = client

    def beat(self) -> Optional[float]:
        """One renewal, for the heartbeat: the seconds until the next, or None when the lease is over. Raises when it failed."""
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
                f"a forked process may use its URL, but to {verb} it is the other's: lease a database of your own"
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
        say(f"the lease on {self.database} was lost, and what is done there now is worth nothing: {error}")

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "lost" if self.lost is not None else "released" if self._is_released else "live"
        return f"<pgdibs.Lease {self.id} on {self.database}, {state}>"
