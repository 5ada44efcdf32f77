"""Ends the run with the sentence about a stopped connection: once, in every kind of process, also when it was swallowed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from pgdibs.errors import ConnectionStopped

if TYPE_CHECKING:
    from pgdibs.plugin.connection_guard.decisions import ConnectionGuard

OUTPUT = "pgdibs_stopped_connection"
"""Under which name an xdist worker tells its controller."""


class Reports:
    """The hooks after which something may have connected. Each raises `pytest.UsageError`, which pytest prints as one line."""

    def __init__(self, guard: ConnectionGuard) -> None:
        self._guard = guard
        self._is_sent = False
        """Whether this worker has told its controller, to which it says nothing after that."""

    def end_the_run(self) -> None:
        """Raise if a connection was stopped."""
        if self._guard.stopped:
            raise pytest.UsageError(self._guard.stopped)

    def after_conftests(self, outcome: Any) -> None:
        """The initial conftest files, and with them perhaps the application, have been imported."""
        if self._guard.stopped:
            replace(outcome, pytest.UsageError(self._guard.stopped))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self) -> None:
        """A module was imported. First, so that the failed import is not printed as well."""
        self.end_the_run()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """A test is over, its report is sent."""
        self.end_the_run()

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        """It was raised where pytest expects no error, as in a `pytest_configure` of the project."""
        self.end_the_run()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_main(self) -> Any:
        """Everything else, at the end of the run at the latest."""
        outcome = yield
        # A line of progress may be unfinished; a worker has no terminal.
        config = self._guard.config
        if self._guard.stopped and config.pluginmanager.hasplugin("terminalreporter"):
            writer = config.get_terminal_writer()
            if writer.width_of_current_line:
                writer.line()
        self.after_conftests(outcome)

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Any:
        """A worker's own `UsageError` does not reach the controller; what it puts into its output does.

        The innermost wrapper: the project's hooks have run, and xdist, whose wrapper is outside, has not sent the output yet.
        """
        outcome = yield
        output = getattr(session.config, "workeroutput", None)
        self._is_sent = output is not None
        if output is not None and self._guard.stopped:
            output[OUTPUT] = self._guard.stopped
            if outcome.excinfo is not None and issubclass(outcome.excinfo[0], ConnectionStopped):
                outcome.force_result([])

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_unconfigure(self) -> Any:
        """A worker has no other way left to report a connection that the project's own hook has opened."""
        before = self._guard.stopped
        yield
        if self._is_sent and self._guard.stopped and not before:
            print(f"\nERROR: {self._guard.stopped}", file=sys.stderr)  # below the dots of the progress

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """In the controller: a worker has ended."""
        sentence = getattr(node, "workeroutput", {}).get(OUTPUT)
        if sentence:
            raise pytest.UsageError(sentence)


def replace(outcome: Any, error: BaseException) -> None:
    """Make a hook's outcome this error, also with a pluggy that has no method for it; raising there would be a warning."""
    if hasattr(outcome, "force_exception"):
        outcome.force_exception(error)
    else:
        outcome._result, outcome._excinfo = None, (type(error), error, error.__traceback__)
