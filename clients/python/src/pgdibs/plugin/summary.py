"""The header lines and the terminal summary: the leases, and the time that databases cost this run."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Optional

import pytest

if TYPE_CHECKING:
    from pgdibs.plugin.databases import Databases
    from pgdibs.plugin.settings import Settings
    from pgdibs.plugin.template import Templates

MORE = 'docs/troubleshooting.md, "no lease was taken"'


@dataclass
class Share:
    """The share of one process; times in seconds."""

    worker: str = "main"
    leases: int = 0
    is_requested: bool = False
    """Whether a test or fixture has asked for leases, with or without success."""
    waits: list[float] = field(default_factory=list)
    """How long each request for leases took, measured in the process."""
    resets: int = 0
    seconds: float = 0.0
    """Time spent waiting for leases and resets."""
    start_up_seconds: float = 0.0
    """Time from the start of the process to the end of collection, without the time for databases."""
    kept: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The share in types that xdist can send."""
        return asdict(self)


class Summary:
    """Collects the shares of all processes and prints them at the end."""

    def __init__(self, settings: Settings, templates: Templates, started: float) -> None:
        self.settings = settings
        self.templates = templates
        self.shares: dict[str, Share] = {}
        """By worker; a later share of a worker replaces its earlier one."""
        self.databases: Optional[Databases] = None
        """The databases of this process; None in a controller."""
        self.before_workers_seconds = 0.0
        """The start-up time of the controller, which precedes that of the workers."""
        self._started = started

    def add(self, share: Share) -> None:
        """Add a worker's share, or replace its earlier one."""
        self.shares[share.worker] = share

    def pytest_report_header(self) -> list[str]:
        """The leases, or where leases will come from; then the variables that are left alone."""
        return [self._leased_or_source() + weaker_guard(self.settings), *left_alone(self.settings)]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """Print the summary, also after an interruption."""
        if exitstatus == pytest.ExitCode.USAGE_ERROR:
            return
        terminalreporter.section("pgdibs")
        for line in self.summary_lines(time.time() - self._started):
            terminalreporter.line(line)

    def summary_lines(self, wall_seconds: float) -> list[str]:
        """The summary of a run of that many seconds; one line for each kept database."""
        shares = self.shares.values()
        leases = sum(share.leases for share in shares)
        if not leases:
            return [self._no_lease()]
        waits = sorted(wait for share in shares for wait in share.waits)
        resets = sum(share.resets for share in shares)
        kept = [line for share in shares for line in share.kept]
        cost = self.templates.seconds + sum(share.seconds for share in shares) / len(shares)
        start_up = self.before_workers_seconds + sum(share.start_up_seconds for share in shares) / len(shares)
        workers = sum(1 for share in shares if share.leases)
        wait = f"wait p50 {milliseconds(waits[(len(waits) - 1) // 2])} max {milliseconds(waits[-1])}, " if waits else ""
        by = f" by {count(workers, 'worker')}" if self.databases is None else ""
        return [
            f"{count(leases, 'database')} leased{by}, {self._template()}, {wait}{count(resets, 'reset')}, {len(kept)} kept",
            f"databases cost {cost:.2f} s, {percent(cost, wall_seconds)} of the run's {wall_seconds:.1f} s; "
            f"start-up and import {start_up:.2f} s, {percent(start_up, wall_seconds)}",
            *(f"kept: {line}" for line in kept),
        ]

    def _leased_or_source(self) -> str:
        leases = self.databases.leases if self.databases is not None else {}
        if leases:
            names = [lease.database if alias == "default" else f"{lease.database} ({alias})" for alias, lease in leases.items()]
            return f"pgdibs: leased {', '.join(names)} from {self.settings.url}"
        pools = list(dict.fromkeys(self.settings.aliases.values()))
        source = f"pool{'s' if len(pools) > 1 else ''} {', '.join(pools)} at {self.settings.url} ({self._builder()})"
        if self.databases is None and self.settings.variables:
            return f"pgdibs: workers lease from {source}"
        which = "a worker" if self.databases is None else "this process"
        return f"pgdibs: {which} leases from {source} when a test first asks for a database"

    def _builder(self) -> str:
        settings = self.settings
        if not settings.fingerprint:
            return "template built by the daemon"
        if settings.build:
            return f"template built by `{settings.build}`"
        return f"template built by {settings.builder}"

    def _template(self) -> str:
        if not self.settings.fingerprint:
            return "template built by the daemon"
        return f"template {'reused' if self.templates.is_reused else 'built'} in {self.templates.seconds:.2f} s"

    def _no_lease(self) -> str:
        if self.settings.variables or any(share.is_requested for share in self.shares.values()):
            return f"pgdibs: no lease was taken although pgdibs_pool = {self.settings.pool}: the run ended before one came"
        users = "a fixture of pgdibs" + (" or a database of Django" if self.settings.is_django else "")
        return (
            f"pgdibs: no lease was taken although pgdibs_pool = {self.settings.pool}: "
            f"no test used {users} and no variable was set; see {MORE}"
        )


class Off:
    """The header of a run with `--pgdibs=off`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def pytest_report_header(self) -> list[str]:
        """One line with the variables that are unavailable; then the variables that are left alone."""
        names = ", ".join([*(variable.name for variable in self.settings.variables), *self.settings.replaced])
        effect = f"; set to a server that does not exist: {names}" if names else ""
        return [
            f"pgdibs: off (--pgdibs=off), no database is leased{effect}{weaker_guard(self.settings)}",
            *left_alone(self.settings),
        ]


def weaker_guard(settings: Settings) -> str:
    """A note that the connection guard stops no connection, with the setting that says so; empty in mode `error`."""
    if settings.guard == "error":
        return ""
    return f"; connection guard {'off' if settings.guard == 'off' else 'only warns'} ({settings.guard_origin})"


def left_alone(settings: Settings) -> list[str]:
    """One line for each variable that pgdibs does not set because its URL names another engine."""
    return [
        f"pgdibs: {name} is left alone: its URL is one of {scheme}, not of Postgres (`pgdibs_env = {name}` sets it all the same)"
        for name, scheme in settings.left_alone.items()
    ]


def count(number: int, noun: str) -> str:
    """A number with its noun, as in `2 resets`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def milliseconds(seconds: float) -> str:
    """A duration in milliseconds, with one decimal."""
    return f"{seconds * 1000:.1f} ms"


def percent(part: float, total: float) -> str:
    """A percentage; 0 if the total is 0."""
    return f"{100 * part / total:.1f} %" if total > 0 else "0.0 %"
