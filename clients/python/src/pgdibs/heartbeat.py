"""The heartbeat: one thread renews all leases of the process, and the end of the process releases the live ones.

After `os.fork` the parent keeps its thread. The child starts without one: it neither renews nor releases leases of its parent,
and starts a thread with its own first lease.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import Optional, Protocol

from pgdibs.errors import PgdibsError

RETRY_SECONDS = 1.0
"""The pause between two attempts while the daemon does not answer."""


class Renewable(Protocol):
    """What the thread needs of a lease."""

    database: str
    ttl_seconds: float
    renew_after_seconds: float

    def try_renew(self) -> Optional[float]:
        """Renew once. Returns the seconds until the next renewal, or None if the lease has ended. Raises `PgdibsError`."""
        ...

    def release_at_exit(self) -> None:
        """Release the lease at the end of the interpreter."""
        ...


class _Renewal:
    def __init__(self, lease: Renewable) -> None:
        self.lease = lease
        self.last_renewed = time.monotonic()
        self.due = self.last_renewed + lease.renew_after_seconds
        self.has_warned = False


class Heartbeat:
    """The leases that the process renews, and the thread, which exists while there are any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._renewals: dict[int, _Renewal] = {}
        self._thread: Optional[threading.Thread] = None

    def add(self, lease: Renewable) -> None:
        """Start to renew this lease."""
        with self._changed:
            self._renewals[id(lease)] = _Renewal(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pgdibs-heartbeat", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, lease: Renewable) -> None:
        """Stop renewing this lease, without waiting for a renewal that runs."""
        with self._changed:
            self._renewals.pop(id(lease), None)
            self._changed.notify()

    def release_all(self) -> None:
        """Release all leases; the interpreter calls it at its end."""
        with self._changed:
            leases = [renewal.lease for renewal in self._renewals.values()]
        for lease in leases:
            lease.release_at_exit()

    def _run(self) -> None:
        while True:
            with self._changed:
                renewal = self._next()
                if renewal is None:
                    self._thread = None
                    return
            self._renew(renewal)

    def _next(self) -> Optional[_Renewal]:
        """Wait for the renewal that is due first; None without leases. Holds the lock except while it waits."""
        while self._renewals:
            first = min(self._renewals.values(), key=lambda one: one.due)
            seconds = first.due - time.monotonic()
            if seconds <= 0:
                return first
            self._changed.wait(seconds)
        return None

    def _renew(self, renewal: _Renewal) -> None:
        lease = renewal.lease
        try:
            pause = lease.try_renew()
        except PgdibsError as error:
            pause = min(RETRY_SECONDS, lease.renew_after_seconds)
            overdue_seconds = time.monotonic() - renewal.last_renewed
            if overdue_seconds > lease.ttl_seconds and not renewal.has_warned:
                renewal.has_warned = True
                warn(f"the lease on {lease.database} has not been renewed for {overdue_seconds:.0f} s and may be lost: {error}")
        else:
            renewal.last_renewed, renewal.has_warned = time.monotonic(), False
            if pause is None:
                self.remove(lease)
                return
        renewal.due = time.monotonic() + pause


def warn(sentence: str) -> None:
    """Write a line to standard error, in one write, so that the lines of several processes do not mix.

    Ignores a closed standard error, because the heartbeat must go on for the other leases.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"pgdibs: {sentence}\n")
        sys.stderr.flush()


heartbeat = Heartbeat()
"""The heartbeat of this process."""


def _reset_in_child() -> None:
    # A new lock, because a thread of the parent may have held the old one at the fork.
    heartbeat.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)
atexit.register(heartbeat.release_all)
