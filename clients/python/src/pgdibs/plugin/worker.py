"""The hooks of a process that runs tests (an xdist worker, or pytest alone): resets, kept databases, its share of the summary."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Optional

import pytest

from pgdibs.errors import PgdibsError
from pgdibs.plugin.failures import obtain_or_stop
from pgdibs.plugin.footprint import Footprint, peak_rss_mb
from pgdibs.plugin.resets import explanation
from pgdibs.plugin.share import Share

if TYPE_CHECKING:
    from pgdibs.plugin.databases import Databases
    from pgdibs.plugin.summary import Summary


class Worker:
    """The hooks of a process that runs tests."""

    def __init__(self, databases: Databases, summary: Optional[Summary]) -> None:
        """`summary`: that of the run; None in a worker, whose controller has it."""
        self.databases = databases
        self.summary = summary
        self.timeline = databases.timeline
        self.footprint = Footprint()
        self.share = Share(databases.worker, started=self.timeline.started)
        self._between_tests = "idle" if summary is None else "tests"
        self._kept_for = ""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, Any, None]:
        """Send a `UsageError` of the plugin to the controller, because xdist does not report it."""
        outcome = yield
        error = outcome.excinfo[1] if outcome.excinfo else None
        output = getattr(session.config, "workeroutput", None)
        if output is not None and isinstance(error, pytest.UsageError) and str(error).startswith("pgdibs: "):
            output["pgdibs_usage_error"] = str(error)

    def pytest_collection_finish(self) -> None:
        """Start-up and import end when collection is done."""
        self.timeline.switch(self._between_tests)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, None]:
        """Time the test with its fixtures."""
        self.timeline.switch("tests")
        yield
        self.share.tests += 1
        self.timeline.switch(self._between_tests)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Refuse a marker with other arguments than reset="before"."""
        for marker in item.iter_markers("pgdibs"):
            if marker.args or marker.kwargs != {"reset": "before"}:
                arguments = ", ".join([*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())])
                raise pytest.UsageError(f'pgdibs: {item.nodeid}: the marker is pgdibs(reset="before"), not pgdibs({arguments})')

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Fail the test if a lease is lost; reset if the test needs a clean database."""
        databases = self.databases
        needs_clean = item.get_closest_marker("pgdibs") is not None
        if needs_clean:
            obtain_or_stop(databases, item.session)
        error = databases.lost()
        if error is not None:
            pytest.fail(f"pgdibs: {error}", pytrace=False)
        if databases.needs_reset:
            databases.reset()
        if needs_clean:
            databases.reset_unless_clean()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self) -> None:
        """The test may have written to the databases."""
        self.databases.test_has_run()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, None]:
        """Keep the databases of a failed test now, before the teardown of fixtures changes them; explain what a reset ended."""
        outcome = yield
        report: pytest.TestReport = outcome.get_result()
        if report.failed and self.databases.generation > len(self.databases.leases) and call.excinfo is not None:
            sentence = explanation(call.excinfo.value)
            report.sections += [("pgdibs", sentence)] if sentence else []
        self._keep_after_failure(item, report)
        if report.when == "call":
            self.footprint.count(self._ports())
        if report.when != "call" and hasattr(item.config, "workerinput"):
            # For the controller, in case this process dies before `pytest_sessionfinish`.
            report.pgdibs_share = self.measured().as_dict()  # type: ignore[attr-defined]

    def _keep_after_failure(self, item: pytest.Item, report: pytest.TestReport) -> None:
        databases = self.databases
        if not report.failed or databases.settings.keep != "failed" or not databases.leases or self._kept_for == item.nodeid:
            return
        # A later failure of the same test, in the teardown, happens on the new database.
        self._kept_for = item.nodeid
        try:
            lines = databases.keep_and_reset(f"{item.nodeid} failed")
        except PgdibsError as error:
            lines = [f"the database was not kept: {error}"]
        else:
            self.share.kept += [f"{item.nodeid}: {line}" for line in lines]
            lines.append("(this database is kept as it was for one hour)")
        report.sections.append(("pgdibs", "\n".join(lines)))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send the final share to the controller; without one complete the summary."""
        share = self.measured()
        share.is_final = True
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["pgdibs"] = share.as_dict()
        if self.summary is not None:
            self.summary.add(share)
            self.summary.finish(self.databases.client, self.databases.run)

    def connection_opens(self) -> None:
        """Count the connections: this process is about to open one."""
        self.footprint.count(self._ports(), opening=1)

    def _ports(self) -> set[int]:
        return {lease.port for lease in self.databases.leases.values()}

    def measured(self) -> Share:
        """The share of this process until now."""
        share = self.share
        share.waits = self.databases.waits if self.databases.leases else []
        share.leases = len(self.databases.leases)
        share.is_requested = self.databases.is_requested
        share.resets = len(self.databases.resets)
        share.age, share.seconds, share.phase, share.since = self.timeline.measured()
        share.lane_from, share.lane = self.timeline.new_segments()
        share.peak_rss_mb, share.connections = peak_rss_mb(), self.footprint.connections
        return share
