"""The header line and the terminal summary: what databases cost this run, measured."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pgdibs.plugin.settings import Settings
    from pgdibs.plugin.template import Templates


@dataclass
class Share:
    """One process's part; times in seconds."""

    leases: int = 0
    waits: list[float] = field(default_factory=list)
    """How long each request for leases took, as the process saw it."""
    resets: int = 0
    seconds: float = 0.0
    """Spent waiting for leases and resets."""
    start_up_seconds: float = 0.0
    """From the process's start until everything was imported and collected, without the time for databases."""
    kept: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Only types that xdist can send."""
        return asdict(self)


class Summary:
    """Collects the shares of all processes and prints them at the end."""

    def __init__(self, settings: Settings, templates: Templates, started: float) -> None:
        self.settings = settings
        self.templates = templates
        self.shares: list[Share] = []
        self.before_workers_seconds = 0.0
        """The controller's own start-up, which comes before that of the workers."""
        self._started = started

    def pytest_report_header(self) -> str:
        """Where databases come from."""
        pools = ", ".join(dict.fromkeys(self.settings.aliases.values()))
        return f"pgdibs: databases of {pools} from {self.settings.url}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A few lines, and one for each kept database."""
        if not any(share.leases for share in self.shares):
            return
        terminalreporter.section("pgdibs")
        for line in self.lines(time.time() - self._started):
            terminalreporter.line(line)

    def lines(self, wall_seconds: float) -> list[str]:
        """What the summary says about a run of that many seconds."""
        waits = sorted(wait for share in self.shares for wait in share.waits)
        leases = sum(share.leases for share in self.shares)
        resets = sum(share.resets for share in self.shares)
        kept = [line for share in self.shares for line in share.kept]
        count = len(self.shares)
        cost = self.templates.seconds + sum(share.seconds for share in self.shares) / count
        start_up = self.before_workers_seconds + sum(share.start_up_seconds for share in self.shares) / count
        median = waits[(len(waits) - 1) // 2]
        return [
            f"{self._template()}, {leases} lease{'' if leases == 1 else 's'}, wait p50 {milliseconds(median)} "
            f"max {milliseconds(waits[-1])}, {resets} reset{'' if resets == 1 else 's'}, {len(kept)} kept",
            f"databases cost {cost:.2f} s, {percent(cost, wall_seconds)} of the run's {wall_seconds:.1f} s; "
            f"start-up and import {start_up:.2f} s, {percent(start_up, wall_seconds)}",
            *(f"kept: {line}" for line in kept),
        ]

    def _template(self) -> str:
        if not self.settings.fingerprint:
            return "template built by the daemon"
        return f"template {'reused' if self.templates.is_reused else 'built'} in {self.templates.seconds:.2f} s"


def milliseconds(seconds: float) -> str:
    """A wait, to the tenth of a millisecond."""
    return f"{seconds * 1000:.1f} ms"


def percent(part: float, whole: float) -> str:
    """A share; a run that took no time cannot be shared."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else "0.0 %"
