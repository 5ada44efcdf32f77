"""The header lines and the terminal summary: the leases, and where the time of the run went."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import pytest

from pgdibs.plugin.inputs import sentence
from pgdibs.plugin.run_report import RunReport
from pgdibs.plugin.run_times import RunTimes, lane_of
from pgdibs.plugin.share import Share

if TYPE_CHECKING:
    from pgdibs.client import Client
    from pgdibs.plugin.databases import Databases
    from pgdibs.plugin.settings import Settings
    from pgdibs.plugin.template import Templates
    from pgdibs.plugin.timeline import Segment, Timeline

MORE = 'docs/troubleshooting.md, "no lease was taken"'


@dataclass
class WorkerProcess:
    """What the controller knows of a worker; times on its monotonic clock."""

    started: float
    is_local: bool
    waited: dict[str, float]
    """The phases of the controller before it."""
    crashed_at: Optional[float] = None


class Summary:
    """Collects the shares of all processes, prints what they add up to, and reports it."""

    def __init__(self, settings: Settings, templates: Templates, timeline: Timeline, reports: list[Path]) -> None:
        """`timeline` is that of this process; `reports` are the files of `--pgdibs-report`."""
        self.settings = settings
        self.templates = templates
        self.timeline = timeline
        self.reports = reports
        self.shares: dict[str, Share] = {}
        """By worker; a later share of a worker replaces its earlier one."""
        self.databases: Optional[Databases] = None
        """The databases of this process; None in a controller."""
        self._lanes: dict[str, list[Segment]] = {}
        self._workers: dict[str, WorkerProcess] = {}
        self._first = 0
        """How many workers begin with the run; a later one replaces one that has crashed."""
        self._before_workers: dict[str, float] = {}
        self._notes: list[str] = []
        self._times: Optional[RunTimes] = None

    def add(self, share: Share) -> None:
        """Add a worker's share, or replace its earlier one."""
        self.shares[share.worker] = share
        lane = self._lanes.setdefault(share.worker, [])
        lane[share.lane_from :] = share.lane

    def start_workers(self, number: int) -> None:
        """The controller is about to start so many workers."""
        self._first = number
        self.timeline.switch("start_up")
        self._before_workers = dict(self.timeline.seconds)

    def add_worker(self, worker: str, is_local: bool) -> None:
        """The controller has started a worker, whose monotonic clock is that of this process if it is local."""
        waited = {} if len(self._workers) >= self._first else self._before_workers
        self._workers[worker] = WorkerProcess(time.monotonic(), is_local, waited)

    def end_worker(self, worker: str) -> None:
        """A worker has crashed."""
        if worker in self._workers:
            self._workers[worker].crashed_at = time.monotonic()

    def finish(self, client: Client, run: str) -> None:
        """Measure the run, which has ended; send its times to the daemon, and write the files of `--pgdibs-report`."""
        times = self._times = self._measure()
        report = RunReport(times, self.settings, self.templates, run)
        report.send(client)
        for path in self.reports:
            self._notes.append(report.write(path))

    def _measure(self) -> RunTimes:
        start, total = self.timeline.started, time.monotonic() - self.timeline.started
        if self.databases is not None:
            (share,) = self.shares.values()
            lane = lane_of(share, self._lanes.get(share.worker, []), 0.0, total, {}, None)
            return RunTimes(total, [lane])
        lanes = []
        for name, worker in self._workers.items():
            share = self.shares.get(name) or Share(name)
            begin = (share.started if worker.is_local and share.age else worker.started) - start
            before = dict(worker.waited)
            if before:
                # From the controller's last step until this worker's process began.
                before["start_up"] = before.get("start_up", 0.0) + max(0.0, begin - sum(before.values()))
            crashed_at = None if worker.crashed_at is None else worker.crashed_at - start
            lanes.append(lane_of(share, self._lanes.get(name, []), begin, total, before, crashed_at))
        return RunTimes(total, lanes, list(self.timeline.lane or []))

    def pytest_report_header(self) -> list[str]:
        """The leases, or where leases will come from; then the variables that are left alone."""
        return [self._leased_or_source() + weaker_guard(self.settings), *left_alone(self.settings)]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """Print the summary, also after an interruption."""
        if exitstatus == pytest.ExitCode.USAGE_ERROR:
            return
        terminalreporter.section("pgdibs")
        for line in self.summary_lines(self._times or self._measure()):
            terminalreporter.line(line)

    def summary_lines(self, times: RunTimes) -> list[str]:
        """At most four lines; then one for each kept database and each file of a report."""
        shares = self.shares.values()
        kept = [line for share in shares for line in share.kept]
        leases = sum(share.leases for share in shares)
        return [
            self._leased(leases, len(kept)) if leases else self._no_lease(),
            *time_lines(times),
            *(f"kept: {line}" for line in kept),
            *self._notes,
        ]

    def _leased(self, leases: int, kept: int) -> str:
        shares = self.shares.values()
        waits = sorted(wait for share in shares for wait in share.waits)
        resets = sum(share.resets for share in shares)
        workers = sum(1 for share in shares if share.leases)
        wait = f"wait p50 {milliseconds(waits[(len(waits) - 1) // 2])} max {milliseconds(waits[-1])}, " if waits else ""
        by = f" by {count(workers, 'worker')}" if self.databases is None else ""
        return f"{count(leases, 'database')} leased{by}, {self._template()}, {wait}{count(resets, 'reset')}, {kept} kept"

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
        if self.templates.is_reused:
            return f"template reused in {self.templates.seconds:.2f} s"
        why = f" ({sentence(self.templates.changes)})" if self.templates.changes is not None else ""
        return f"template built in {self.templates.seconds:.2f} s{why}"

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


def time_lines(times: RunTimes) -> list[str]:
    """Where the time of the run went, in at most three lines."""
    of, total = times.seconds, times.total

    def part(seconds: float) -> str:
        return f"{seconds:.2f} s ({percent(seconds, total)})"

    idle = f", idle workers {part(of['idle'])}, at the end {times.idle_at_end:.2f} s" if len(times.lanes) > 1 else ""
    lines = [
        f"the run took {total:.1f} s: start-up and import {part(times.start_up)}, waiting for databases {part(of['database'])}, "
        f"template {part(of['template'])}, resets {part(of['reset'])}, tests {part(of['tests'])}{idle}"
    ]
    slowest = times.slowest
    if slowest is not None:
        own = slowest.share.seconds
        waits = sum(own.get(phase, 0.0) for phase in ("template", "database", "reset"))
        crashed = ", crashed" if slowest.is_crashed else ""
        lines.append(
            f"slowest worker {slowest.worker}: started at {slowest.begin:.1f} s, start-up {own.get('start_up', 0.0):.2f} s, "
            f"import {own.get('import', 0.0):.2f} s, databases {waits:.2f} s, tests {slowest.seconds['tests']:.2f} s "
            f"({slowest.share.tests}), done at {slowest.done:.1f} s{crashed}"
        )
    if times.is_start_up_long:
        lines.append(
            f"start-up and import take {percent(times.start_up, total)} of this run: `pgdibs diagnose -- pytest …` says what "
            "takes so long and what would shorten it"
        )
    return lines


def count(number: int, noun: str) -> str:
    """A number with its noun, as in `2 resets`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def milliseconds(seconds: float) -> str:
    """A duration in milliseconds, with one decimal."""
    return f"{seconds * 1000:.1f} ms"


def percent(part: float, total: float) -> str:
    """A percentage; 0 if the total is 0."""
    return f"{100 * part / total:.0f} %" if total > 0 else "0 %"
