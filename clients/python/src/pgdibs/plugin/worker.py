"""A process that runs tests (an xdist worker, or pytest alone): resets, kept databases, what it tells the controller."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pgdibs.errors import PgdibsError
from pgdibs.plugin.failures import obtain_or_stop
from pgdibs.plugin.summary import Share

if TYPE_CHECKING:
    from pgdibs.plugin.databases import Databases


class Worker:
    """The hooks of a process that runs tests."""

    def __init__(self, databases: Databases, started: float) -> None:
        self.databases = databases
        self.share = Share(databases.worker)
        self._started = started
        self._kept_for = ""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, Any, None]:
        """A `UsageError` of the plugin ends a worker in order, so xdist does not report it; the controller takes it from here."""
        outcome = yield
        error = outcome.excinfo[1] if outcome.excinfo else None
        output = getattr(session.config, "workeroutput", None)
        if output is not None and isinstance(error, pytest.UsageError) and str(error).startswith("pgdibs: "):
            output["pgdibs_usage_error"] = str(error)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Everything is imported."""
        started = getattr(session.config, "workerinput", {}).get("pgdibs_started", self._started)
        self.share.start_up_seconds = max(0.0, time.time() - started - self.databases.seconds - self.databases.prepared_seconds)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """A marker that says something else than reset="before" is a mistake."""
        for marker in item.iter_markers("pgdibs"):
            if marker.args or marker.kwargs != {"reset": "before"}:
                said = ", ".join([*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())])
                raise pytest.UsageError(f'pgdibs: {item.nodeid}: the marker is pgdibs(reset="before"), not pgdibs({said})')

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """No test runs on a database that is no longer ours, or on a dirty one when it asks for a clean one."""
        databases = self.databases
        is_clean_wanted = item.get_closest_marker("pgdibs") is not None
        if is_clean_wanted:
            obtain_or_stop(databases, item.session)
        error = databases.lost()
        if error is not None:
            pytest.fail(f"pgdibs: {error}", pytrace=False)
        if databases.is_reset_wanted:
            databases.reset()
        if is_clean_wanted:
            databases.reset_unless_clean()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self) -> None:
        """Whatever ran may have written."""
        self.databases.touched()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, None]:
        """After a failure: keep the database at once, before the teardown of fixtures changes it."""
        outcome = yield
        report: pytest.TestReport = outcome.get_result()
        self._keep_after_failure(item, report)
        if report.when != "call" and hasattr(item.config, "workerinput"):
            # The controller's, should this process end before it has said at the end what it cost.
            report.pgdibs_share = self.measured().as_dict()  # type: ignore[attr-defined]

    def _keep_after_failure(self, item: pytest.Item, report: pytest.TestReport) -> None:
        databases = self.databases
        if not report.failed or databases.settings.keep != "failed" or not databases.leases or self._kept_for == item.nodeid:
            return
        # What fails afterwards, in the teardown, fails on a database that has just been replaced.
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
        """Tell the controller what it cost; alone, the summary finds it here."""
        share = self.measured()
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["pgdibs"] = share.as_dict()

    def measured(self) -> Share:
        """What databases have cost this process until now."""
        self.share.waits = self.databases.waits if self.databases.leases else []
        self.share.leases = len(self.databases.leases)
        self.share.is_asked = self.databases.is_asked
        self.share.resets = len(self.databases.resets)
        self.share.seconds = self.databases.seconds
        return self.share
