"""What one test process tells about itself: its leases, its phases, what it takes. A worker sends it to the controller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pgdibs.plugin.timeline import Segment


@dataclass
class Share:
    """The share of one process; times in seconds."""

    worker: str = "main"
    is_final: bool = False
    """Whether the process has ended its session: an earlier share may be its last one."""
    leases: int = 0
    is_requested: bool = False
    """Whether a test or fixture has asked for leases, with or without success."""
    waits: list[float] = field(default_factory=list)
    """How long each request for leases took, measured in the process."""
    resets: int = 0
    kept: list[str] = field(default_factory=list)
    """The `psql` commands of kept databases, with passwords: they go to the terminal alone."""
    tests: int = 0
    started: float = 0.0
    """When the process began, on the monotonic clock of its machine."""
    age: float = 0.0
    """The seconds from then to this share."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Those seconds by phase."""
    phase: str = "start_up"
    """The phase of this moment."""
    since: float = 0.0
    """When that began, in seconds since `started`."""
    lane_from: int = 0
    lane: list[Segment] = field(default_factory=list)
    """The phases one by one, those of the earlier shares up to `lane_from` left out; empty without `--pgdibs-report`."""
    peak_rss_mb: int = 0
    connections: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The share in types that xdist can send."""
        return dict(vars(self))
