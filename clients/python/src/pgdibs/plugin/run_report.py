"""The report of a run: as JSON, as a page, and as the figures that the daemon keeps."""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgdibs.client import holder_name, report_body, report_path

if TYPE_CHECKING:
    from pgdibs.client import Client
    from pgdibs.plugin.run_times import Lane, RunTimes
    from pgdibs.plugin.settings import Settings
    from pgdibs.plugin.template import Templates
    from pgdibs.plugin.timeline import Segment

SEND_SECONDS = 1.0
"""How long the end of a run may take to send its report; it does not wait for the answer."""

MOST_WORKERS = 300
"""How many workers a report to the daemon has at most, which takes 64 KiB."""

SHOWN_PARTS = 1000
"""A phase that is shorter than this part of the run is not drawn on its own."""


def reports_of(config: pytest.Config) -> list[Path]:
    """The files of `--pgdibs-report`. Raises `pytest.UsageError` for one that the end of the run could not write."""
    paths = []
    for given in config.known_args_namespace.pgdibs_report or ():
        path = config.invocation_params.dir / given
        if path.suffix not in (".json", ".html"):
            raise pytest.UsageError(f"pgdibs: --pgdibs-report is `{given}`; it has to end in .json or .html")
        if path.is_dir() or not path.parent.is_dir():
            raise pytest.UsageError(f"pgdibs: --pgdibs-report is `{given}`; it has to be a file in a directory that exists")
        paths.append(path)
    return paths


@dataclass
class RunReport:
    """What a run says about itself."""

    times: RunTimes
    settings: Settings
    templates: Templates
    run: str

    def send(self, client: Client) -> None:
        """Send the figures to the daemon and do not wait for the answer. Does nothing if the daemon has not been asked before.

        A daemon that is away, or too old for the route, is no error: the end of the run says so if it matters.
        """
        if not client.has_been_answered:
            return
        workers = [
            {"worker": lane.worker, "peak_rss_mb": lane.share.peak_rss_mb, "connections": lane.share.connections}
            for lane in self.times.lanes[:MOST_WORKERS]
        ]
        body = report_body(self.settings.pool, self.seconds, workers, self.templates.inputs, holder_name())
        # Also the errors of plugins that forbid sockets: no run fails because of its report.
        with suppress(Exception):
            client.send("POST", report_path(self.run), body, SEND_SECONDS)

    def write(self, path: Path) -> str:
        """Write the report to a file, by its ending. Returns the line about it."""
        try:
            if path.suffix == ".html":
                from pgdibs.plugin.report_page import page

                path.write_text(page(self.as_json()), encoding="utf-8")
            else:
                path.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            line = f"the report was not written to {path}: {error.strerror or error}"
            print(f"pgdibs: {line}", file=sys.stderr)
            return line
        return f"report: {os.path.relpath(path)}"

    @property
    def seconds(self) -> dict[str, float]:
        """The run's time by phase, in milliseconds' precision; all but `total` add up to it."""
        return {"total": _rounded(self.times.total), **{phase: _rounded(each) for phase, each in self.times.seconds.items()}}

    def as_json(self) -> dict[str, Any]:
        """The report; times in seconds since the start of the run."""
        began = datetime.datetime.fromtimestamp(time.time() - self.times.total, datetime.timezone.utc)
        shortest = self.times.total / SHOWN_PARTS
        return {
            "version": 1,
            "run": self.run,
            "pool": self.settings.pool,
            "started_at": began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "seconds": self.seconds,
            "idle_at_end": _rounded(self.times.idle_at_end),
            "template": self._template(),
            "databases": {
                "leased": sum(lane.share.leases for lane in self.times.lanes),
                "waits": [_rounded(wait) for lane in self.times.lanes for wait in lane.share.waits],
                "resets": sum(lane.share.resets for lane in self.times.lanes),
                "kept": sum(len(lane.share.kept) for lane in self.times.lanes),
            },
            "slowest": self.times.slowest.worker if self.times.slowest is not None else None,
            "controller": _shown(self.times.controller, shortest),
            "workers": [_worker(lane, shortest) for lane in self.times.lanes],
        }

    def _template(self) -> dict[str, Any]:
        by_daemon = not self.settings.fingerprint
        built = "by the daemon" if by_daemon else "reused" if self.templates.is_reused else "by this run"
        return {"built": built, "seconds": _rounded(self.templates.seconds), "input_changes": self.templates.changes}


def _worker(lane: Lane, shortest: float) -> dict[str, Any]:
    return {
        "worker": lane.worker,
        "began": _rounded(lane.begin),
        "ended": _rounded(lane.end),
        "crashed": lane.is_crashed,
        "tests": lane.share.tests,
        "seconds": {phase: _rounded(each) for phase, each in lane.seconds.items()},
        "peak_rss_mb": lane.share.peak_rss_mb,
        "connections": lane.share.connections,
        "lane": _shown(lane.segments, shortest),
    }


def _shown(segments: list[Segment], shortest: float) -> list[list[Any]]:
    """The phases as they are drawn: one that is too short to be seen belongs to the one before it, and equal ones are one."""
    shown: list[list[Any]] = []
    for phase, begin, end in segments:
        if shown and (shown[-1][0] == phase or end - begin < shortest):
            shown[-1][2] = _rounded(end)
        else:
            shown.append([phase, _rounded(begin), _rounded(end)])
    return shown


def _rounded(seconds: float) -> float:
    return round(max(0.0, seconds), 3)
