"""The databases of one test process: leased together, reset together, given back on every way out."""

from __future__ import annotations

import atexit
import os
import time
from typing import TYPE_CHECKING, Callable, Optional, TypeVar

import pytest

from pgdibs.client import Client, LeaseRequest
from pgdibs.errors import PgdibsError, Unreachable
from pgdibs.plugin.variables import point

if TYPE_CHECKING:
    from pgdibs.lease import Lease
    from pgdibs.plugin.settings import Settings

TTL_SECONDS = 60
"""How long the daemon waits for a sign of life before it takes a database back."""

WAIT_SECONDS = 30.0
"""How long one request waits at the daemon before it answers "not yet"."""

AWAY_SECONDS = 30.0
"""How long a daemon that has answered before may be away when it is needed."""

T = TypeVar("T")


class Databases:
    """One lease per alias, and what they cost."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        client: Client,
        run: str,
        worker: str,
        fingerprints: Callable[[], dict[str, str]],
        has_answered: bool = False,
    ) -> None:
        self.config = config
        self.settings = settings
        self.client = client
        self.run = run
        self.worker = worker
        self.leases: dict[str, Lease] = {}
        """By alias, in the order of `settings.aliases`; empty until `obtain`."""
        self.is_asked = False
        """Whether `obtain` has been called."""
        self.is_reset_wanted = False
        """Set when a test leaves behind what the next one must not see."""
        self.seconds = 0.0
        """What databases have cost this process: waiting for leases and for resets."""
        self.prepared_seconds = 0.0
        """Spent on the template before the first lease; a worker finds it prepared."""
        self.waits: list[float] = []
        self.resets: list[float] = []
        self._fingerprints = fingerprints
        self._has_answered = has_answered
        self._is_clean = False
        self._is_over = False
        self._process = os.getpid()

    def obtain(self) -> dict[str, Lease]:
        """One lease per alias, all or none, the variables set; the same ones when called again.

        Raises a `PgdibsError` when none came within `pgdibs_timeout`.
        """
        if self.leases:
            return self.leases
        self.is_asked = True
        started = time.monotonic()
        fingerprints = self._fingerprints()
        self.prepared_seconds = time.monotonic() - started
        started = time.monotonic()
        requests = [
            LeaseRequest(
                pool=pool,
                fingerprint=fingerprints.get(pool),
                run=self.run,
                worker=self.worker,
                alias=alias,
                ttl_seconds=TTL_SECONDS,
            )
            for alias, pool in self.settings.aliases.items()
        ]
        wait_seconds = min(WAIT_SECONDS, self.settings.timeout_seconds)
        leases = self._patiently(
            lambda: self.client.batch(requests, wait_seconds=wait_seconds, deadline_seconds=self.settings.timeout_seconds)
        )
        self._has_answered = True
        self.leases = dict(zip(self.settings.aliases, leases))
        atexit.register(self.release)
        self.config.add_cleanup(self.release)
        for alias, lease in self.leases.items():
            point(self.settings.variables, alias, lease)
        os.environ["PGDIBS_SLOT"] = str(self.leases["default"].slot)
        self._spent(self.waits, started)
        self.config.hook.pytest_pgdibs_leased(config=self.config, databases=self)
        return self.leases

    def reset(self) -> None:
        """A clean database behind each URL; every session on the old ones has been ended."""
        started = time.monotonic()
        self.config.hook.pytest_pgdibs_before_reset(config=self.config)
        for lease in self.leases.values():
            self._patiently(lease.reset)
        self._spent(self.resets, started)
        self.is_reset_wanted = False
        self._is_clean = True

    def reset_unless_clean(self) -> None:
        """A reset, unless nothing has run since the last one."""
        if not self._is_clean:
            self.reset()

    def touched(self) -> None:
        """Something has run here; the databases are not known to be clean any more."""
        self._is_clean = False

    def keep_and_reset(self, reason: str) -> list[str]:
        """Keep the databases as they are, for an hour, and go on with clean ones; says how to open each that is kept."""
        kept = []
        for alias, lease in self.leases.items():
            database = self._patiently(lambda lease=lease: lease.keep(seconds=3600, reason=reason[:200]))  # type: ignore[misc]
            kept.append(f"{alias}: psql '{database.url}'" if len(self.leases) > 1 else f"psql '{database.url}'")
        self.reset()
        return kept

    def lost(self) -> Optional[PgdibsError]:
        """The error that says how a lease ended although it was not released here; None as a rule."""
        return next((lease.lost for lease in self.leases.values() if lease.lost is not None), None)

    def release(self) -> None:
        """Give everything back; calling it again does nothing, nor does a forked child that ends."""
        if self._is_over or os.getpid() != self._process:
            return
        self._is_over = True
        atexit.unregister(self.release)
        for lease in self.leases.values():
            lease.release()
        self.client.close()

    def _patiently(self, call: Callable[[], T]) -> T:
        """What `call` returns; a daemon that has answered this run before may be away for a moment, as in a restart.

        All calls made this way may be repeated: a lease has its key, a reset the generation that it leaves behind.
        """
        deadline = time.monotonic() + (AWAY_SECONDS if self._has_answered else 0.0)
        while True:
            try:
                return call()
            except Unreachable:
                if time.monotonic() >= deadline:
                    raise
            # The pause between two tries; whether it is back cannot be waited for in another way.
            time.sleep(0.2)

    def _spent(self, times: list[float], started: float) -> None:
        took = time.monotonic() - started
        times.append(took)
        self.seconds += took
