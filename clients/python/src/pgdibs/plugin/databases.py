"""The databases of one test process: leased together, reset together, released however the process ends."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Optional, TypeVar

import pytest

from pgdibs.client import Client, LeaseRequest
from pgdibs.errors import PgdibsError, Unreachable
from pgdibs.plugin.resets import reconnect_after_resets
from pgdibs.plugin.variables import set_environment

if TYPE_CHECKING:
    from pgdibs.lease import Lease
    from pgdibs.plugin.settings import Settings
    from pgdibs.plugin.template import Templates
    from pgdibs.plugin.timeline import Timeline

TTL_SECONDS = 60
"""The time to live of a lease: the daemon ends it after so many seconds without a renewal."""

WAIT_SECONDS = 30.0
"""How long the daemon lets one request wait before it answers 503."""

AWAY_SECONDS = 30.0
"""How long a daemon that has answered before may be unreachable before a call raises."""

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
        templates: Templates | dict[str, str],
        timeline: Timeline,
    ) -> None:
        """`templates`: of a worker the fingerprint of each pool, because its controller has ensured the templates."""
        self.config = config
        self.settings = settings
        self.client = client
        self.run = run
        self.worker = worker
        self.leases: dict[str, Lease] = {}
        """By alias, in the order of `settings.aliases`; empty until `obtain`."""
        self.is_requested = False
        """Whether `obtain` has been called."""
        self.needs_reset = False
        """Whether a test has left changes that the next test must not see."""
        self.timeline = timeline
        self.waits: list[float] = []
        self.resets: list[float] = []
        self._templates = templates
        self._has_answered = isinstance(templates, dict)
        """Whether the daemon has answered this run; a controller has made sure of that."""
        self._is_clean = False
        self._is_released = False
        self._process = os.getpid()
        reconnect_after_resets(config, lambda: self.generation)

    def obtain(self) -> dict[str, Lease]:
        """Lease one database per alias, all or none, and set the variables. Repeated calls return the same leases.

        Raises a `PgdibsError` if the daemon grants no lease within `pgdibs_timeout`.
        """
        if self.leases:
            return self.leases
        self.is_requested = True
        if isinstance(self._templates, dict):
            fingerprints = self._templates
        else:
            with self.timeline.during("template"):
                fingerprints = self._templates.fingerprints()
        leases = self._acquire(
            [
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
        )
        self._has_answered = True
        self.leases = dict(zip(self.settings.aliases, leases))
        atexit.register(self.release)
        self.config.add_cleanup(self.release)
        for alias, lease in self.leases.items():
            set_environment(self.settings.variables, alias, lease)
        os.environ["PGDIBS_SLOT"] = str(self.leases["default"].slot)
        self.config.hook.pytest_pgdibs_leased(config=self.config, databases=self)
        return self.leases

    def _acquire(self, requests: list[LeaseRequest]) -> list[Lease]:
        """The leases. In the common case, daemon and templates are there and databases are ready: one request.

        Otherwise ensure daemon, pools and templates first, then wait for databases.
        """
        templates = None if isinstance(self._templates, dict) else self._templates
        if templates is not None:
            try:
                if templates.may_be_ready:
                    with self._timed("database", self.waits):
                        templates.set_logins()
                        return self.client.batch(requests, wait_seconds=0, deadline_seconds=0)
            except Unreachable:
                if self.settings.start != "auto":
                    raise
            except PgdibsError:
                # Whatever is missing: `ensure` makes it, or raises the error that says what to do.
                pass
            with self.timeline.during("template"):
                templates.ensure()
        wait_seconds = min(WAIT_SECONDS, self.settings.timeout_seconds)
        with self._timed("database", self.waits):
            return self._through_restarts(
                lambda: self.client.batch(requests, wait_seconds=wait_seconds, deadline_seconds=self.settings.timeout_seconds)
            )

    @property
    def generation(self) -> int:
        """Grows with each reset of any of the leases, also with one that a test makes by `Lease.reset`."""
        return sum(lease.generation for lease in self.leases.values())

    def reset(self) -> None:
        """Put a clean database behind each URL; this ends every session on the old databases."""
        with self._timed("reset", self.resets):
            self.config.hook.pytest_pgdibs_before_reset(config=self.config)
            for lease in self.leases.values():
                self._through_restarts(lease.reset)
        self.needs_reset = False
        self._is_clean = True

    def reset_unless_clean(self) -> None:
        """Reset, unless no test has run since the last reset."""
        if not self._is_clean:
            self.reset()

    def test_has_run(self) -> None:
        """Record that a test has run: the databases may not be clean, and the first test has not waited for more requests."""
        self._is_clean = False
        if self.leases and not isinstance(self._templates, dict):
            self._templates.make_current()

    def keep_and_reset(self, reason: str) -> list[str]:
        """Keep the databases for an hour and reset. Returns one `psql` command for each kept database."""
        kept = []
        for alias, lease in self.leases.items():
            database = self._through_restarts(lambda lease=lease: lease.keep(seconds=3600, reason=reason[:200]))  # type: ignore[misc]
            kept.append(f"{alias}: psql '{database.url}'" if len(self.leases) > 1 else f"psql '{database.url}'")
        self.reset()
        return kept

    def lost(self) -> Optional[PgdibsError]:
        """The error of a lease that ended although this process did not release it; None if all are live."""
        return next((lease.lost for lease in self.leases.values() if lease.lost is not None), None)

    def release(self) -> None:
        """Release all leases, without waiting for the answers. Does nothing when called again, or in a forked child."""
        if self._is_released or os.getpid() != self._process:
            return
        self._is_released = True
        atexit.unregister(self.release)
        for lease in self.leases.values():
            lease.send_release()
        self.client.close()

    def _through_restarts(self, call: Callable[[], T]) -> T:
        """What `call` returns. Repeats the call while a daemon that has answered before is unreachable, as in a restart.

        A repeated call has no second effect: an acquire has its key, a reset its generation.
        """
        deadline = time.monotonic() + (AWAY_SECONDS if self._has_answered else 0.0)
        while True:
            try:
                return call()
            except Unreachable:
                if time.monotonic() >= deadline:
                    raise
            # The pause between two attempts; nothing signals that the daemon answers again.
            time.sleep(0.2)

    @contextmanager
    def _timed(self, phase: str, times: list[float]) -> Iterator[None]:
        """Count the time within the context for this phase, and append it to `times` unless it raises."""
        started = time.monotonic()
        with self.timeline.during(phase):
            yield
        times.append(time.monotonic() - started)


databases_key: pytest.StashKey[Databases] = pytest.StashKey()


def databases_of(config: pytest.Config) -> Optional[Databases]:
    """The databases of this process; None without a pool and in a process that runs no tests, as a controller."""
    return config.stash.get(databases_key, None)
