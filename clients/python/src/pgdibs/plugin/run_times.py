"""Where the time of a whole run went: one lane for each process that runs tests, from the start of the run to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional

from pgdibs.plugin.share import Share
from pgdibs.plugin.timeline import PHASES, Segment

START_UP_SHARE = 1 / 3
"""From this share of the run on, start-up and import are worth a look."""


@dataclass
class Lane:
    """One process that ran tests; all times in seconds since the start of the run."""

    worker: str
    begin: float
    """When the process began."""
    end: float
    """When it crashed, or the run ended."""
    is_crashed: bool
    seconds: dict[str, float]
    """By phase: from the start of the run if it depended on the controller, otherwise from `begin`; until `end`."""
    idle_at_end: float
    segments: list[Segment]
    """The phases one by one from `begin` on; empty without `--pgdibs-report`."""
    share: Share

    @property
    def done(self) -> float:
        """When its last work ended."""
        return self.end - self.idle_at_end


@dataclass
class RunTimes:
    """The lanes of a run, and what they add up to."""

    total: float
    lanes: list[Lane]
    controller: list[Segment] = field(default_factory=list)
    """The phases of the controller; empty without workers, and without `--pgdibs-report`."""

    @property
    def seconds(self) -> dict[str, float]:
        """The run's time by phase: the mean of the lanes, so that all phases add up to `total`."""
        everything = sum(sum(lane.seconds.values()) for lane in self.lanes)
        share = self.total / everything if everything > 0 else 0.0
        return {phase: share * sum(lane.seconds[phase] for lane in self.lanes) for phase in PHASES}

    @property
    def idle_at_end(self) -> float:
        """How long the workers had no test to run at the end, in the mean."""
        return sum(lane.idle_at_end for lane in self.lanes) / len(self.lanes) if self.lanes else 0.0

    @property
    def start_up(self) -> float:
        """The seconds of start-up and import."""
        seconds = self.seconds
        return seconds["start_up"] + seconds["import"]

    @property
    def slowest(self) -> Optional[Lane]:
        """The worker that was done last; None if there is only one."""
        return max(self.lanes, key=lambda lane: (lane.done, lane.seconds["tests"])) if len(self.lanes) > 1 else None

    @property
    def is_start_up_long(self) -> bool:
        """Whether start-up and import take more than a third of the run."""
        return self.total > 0 and self.start_up > START_UP_SHARE * self.total


def lane_of(
    share: Share, segments: Sequence[Segment], begin: float, total: float, before: dict[str, float], crashed_at: Optional[float]
) -> Lane:
    """The lane of a process that began `begin` seconds after the run, which took `total`.

    `before`: the phases of the controller until then, which the process had to wait for. After its final share a worker is idle;
    one that has crashed, or was interrupted, was at work.
    """
    end = total if crashed_at is None else crashed_at
    rest = "idle" if share.is_final else "tests" if share.tests else share.phase
    seconds = {phase: share.seconds.get(phase, 0.0) + before.get(phase, 0.0) for phase in PHASES}
    seconds[rest] += max(0.0, end - begin - share.age)
    idle_since = share.since if share.phase == "idle" else share.age
    idle_at_end = max(0.0, end - begin - idle_since) if share.is_final else 0.0
    parts = [*segments, (share.phase, share.since, share.age), (rest, share.age, end - begin)] if segments else []
    placed = [(phase, begin + first, min(end, begin + second)) for phase, first, second in parts if second > first]
    return Lane(share.worker, begin, end, crashed_at is not None, seconds, idle_at_end, placed, share)
