"""The one thread of a process that renews all its leases; what still lives when the process ends is released.

After `os.fork` the parent's thread goes on. The child has none: it neither renews nor releases its parent's leases, and gets a
thread of its own with the first lease that it takes itself.
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

AWAY_PAUSE_SECONDS = 1.0
"""How soon to try again while the daemon does not answer."""


class Renewed(Protocol):
    """A lease, as the thread sees it."""

    database: str
    ttl_seconds: float
    renew_after_seconds: float

    def beat(self) -> Optional[float]:
        """Renew once: the seconds until the next time, or None when it is over. Raises `PgdibsError` when that failed."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class _Beating:
    def __init__(self, lease: Renewed) -> None:
        self.lease = lease
        self.last_renewed = time.monotonic()
        self.due = self.last_renewed + lease.renew_after_seconds
        self.is_trouble_told = False


class Heartbeat:
    """The leases of this process that are renewed, and the thread, which exists while there are any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._beating: dict[int, _Beating] = {}
        self._thread: Optional[threading.Thread] = None

    def add(self, lease: Renewed) -> None:
        """Renew it from now on."""
        with self._changed:
            self._beating[id(lease)] = _Beating(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pgdibs-heartbeat", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, lease: Renewed) -> None:
        """Renew it no more; a renewal that is under way is not waited for."""
        with self._changed:
            self._beating.pop(id(lease), None)
            self._changed.notify()

    def release_all(self) -> None:
        """What this process still has when it ends goes back at once."""
        with self._changed:
            leases = [beating.lease for beating in self._beating.values()]
        for lease in leases:
            lease.release()

    def _run(self) -> None:
        while True:
            with self._changed:
                beating = self._next()
                if beating is None:
                    self._thread = None
                    return
            self._beat(beating)

    def _next(self) -> Optional[_Beating]:
        """Wait for the one that is due first; None when there is none left. The lock is held but for the waiting."""
        while self._beating:
            first = min(self._beating.values(), key=lambda one: one.due)
            seconds = first.due - time.monotonic()
            if seconds <= 0:
                return first
            self._changed.wait(seconds)
        return None

    def _beat(self, beating: _Beating) -> None:
        lease = beating.lease
        try:
            pause = lease.beat()
        except PgdibsError as error:
            pause = min(AWAY_PAUSE_SECONDS, lease.renew_after_seconds)
            silent_seconds = time.monotonic() - beating.last_renewed
            if silent_seconds > lease.ttl_seconds and not beating.is_trouble_told:
                beating.is_trouble_told = True
                say(f"the lease on {lease.database} has not been renewed for {silent_seconds:.0f} s and may be lost: {error}")
        else:
            beating.last_renewed, beating.is_trouble_told = time.monotonic(), False
            if pause is None:
                self.remove(lease)
                return
        beating.due = time.monotonic() + pause


def say(sentence: str) -> None:
    """A line on standard error, in one write, so that lines of several processes do not mix.

    When nobody is there to read it any more, the heartbeat goes on all the same: other leases depend on it.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"pgdibs: {sentence}\n")
        sys.stderr.flush()


heartbeat = Heartbeat()
"""This process's own."""


def _forget_in_child() -> None:
    # Another object and not an emptied one: the parent's lock may have been held by a thread that does not exist here.
    heartbeat.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
atexit.register(heartbeat.release_all)
