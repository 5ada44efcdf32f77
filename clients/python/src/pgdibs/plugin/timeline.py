"""Where the time of one process went: at each moment it is in one phase, so the phases add up to its whole time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional

PHASES = ("start_up", "import", "template", "database", "reset", "tests", "idle")
"""The phases: the interpreter and pytest; conftest.py and collection; the templates; waiting for leases; resets; tests with their
fixtures; none of these."""

PAUSE_SECONDS = 0.01
"""A worker that gets its next test within this time has not been idle."""

Segment = tuple[str, float, float]
"""A phase, its begin and its end, in seconds since the start of the process."""


class Measured(NamedTuple):
    """A timeline at one moment; times in seconds since the start of the process."""

    age: float
    seconds: dict[str, float]
    phase: str
    """The present phase."""
    since: float
    """When it began."""


_has_begun = False
"""Whether this process has made a timeline; a program may call `pytest.main` again and again."""


class Timeline:
    """The phases of this process, from its start on the monotonic clock. `has_lane`: whether it keeps each of them."""

    def __init__(self, started: float, has_lane: bool) -> None:
        self.started = started
        self.seconds = dict.fromkeys(PHASES, 0.0)
        """The seconds of each phase that has ended."""
        self.lane: Optional[list[Segment]] = [] if has_lane else None
        self._phase = "start_up"
        self._since = started
        self._sent = 0

    def switch(self, phase: str) -> str:
        """End the present phase and begin this one. Returns the former."""
        now, before = time.monotonic(), self._phase
        is_pause = before == "idle" and phase == "tests" and now - self._since < PAUSE_SECONDS
        self._add("tests" if is_pause else before, self._since, now)
        self._phase, self._since = phase, now
        return before

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Be in this phase within the context, and then in the former again."""
        before = self.switch(phase)
        try:
            yield
        finally:
            self.switch(before)

    def measured(self) -> Measured:
        """Where the time has gone until now."""
        now = time.monotonic()
        seconds = dict(self.seconds)
        seconds[self._phase] += now - self._since
        return Measured(now - self.started, seconds, self._phase, self._since - self.started)

    def new_segments(self) -> tuple[int, list[Segment]]:
        """What the lane has got since the last call: from which number on it is replaced, and by what."""
        if self.lane is None:
            return 0, []
        # The last segment that was sent may have become longer.
        first = max(0, self._sent - 1)
        self._sent = len(self.lane)
        return first, self.lane[first:]

    def _add(self, phase: str, begin: float, end: float) -> None:
        self.seconds[phase] += end - begin
        if self.lane is None:
            return
        begin, end = begin - self.started, end - self.started
        if self.lane and self.lane[-1][0] == phase:
            self.lane[-1] = (phase, self.lane[-1][1], end)
        else:
            self.lane.append((phase, begin, end))


def begin_timeline(loaded_at: float, is_own_process: bool, has_lane: bool) -> Timeline:
    """The timeline of this process, whose plugin was loaded at `loaded_at` (seconds since the epoch).

    It starts with the process if pytest has the process to itself; in a program that calls `pytest.main`, with the plugin, and
    from the second call on now.
    """
    global _has_begun
    now = time.monotonic()
    started = now if _has_begun else now - max(0.0, time.time() - loaded_at)
    if is_own_process and not _has_begun:
        started = min(started, now - _age_of_process())
    _has_begun = True
    return Timeline(started, has_lane)


def _age_of_process() -> float:
    """The seconds since this process began; where the system does not say it, those that it has computed, which are fewer."""
    try:
        with open("/proc/self/stat", "rb") as file:
            # The name of the program, in parentheses, may contain blanks.
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.process_time()
