"""Ends the run with the sentence about a stopped connection: once, in every kind of process, also if code swallowed it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pgdibs.errors import ConnectionStopped

if TYPE_CHECKING:
    from pgdibs.plugin.connection_guard.decisions import ConnectionGuard

OUTPUT = "pgdibs_stopped_connection"
"""The key in the output of an xdist worker for its controller."""


class GuardHooks:
    """The hooks after which code may have connected. Each raises `pytest.UsageError`, which pytest prints as one line."""

    def __init__(self, guard: ConnectionGuard) -> None:
        self._guard = guard
        self._has_output = False
        """Whether this worker has written its output for the controller, which takes no more after that."""

    def observe(self, on_attempt: Callable[[], None]) -> None:
        """Call this before each attempt to connect."""
        self._guard.on_attempt = on_attempt

    def end_run(self) -> None:
        """Raise if a connection was stopped."""
        if self._guard.stopped:
            raise pytest.UsageError(self._guard.stopped)

    def after_conftests(self, outcome: Any) -> None:
        """The initial conftest files, which may import the application."""
        if self._guard.stopped:
            set_exception(outcome, pytest.UsageError(self._guard.stopped))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self) -> None:
        """The import of a test module. First, so that pytest does not print the failed import as well."""
        self.end_run()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """The end of a test, after its report."""
        self.end_run()

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        """A hook where pytest expects no error, as a `pytest_configure` of the project."""
        self.end_run()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_main(self) -> Any:
        """All other code, at the end of the run."""
        outcome = yield
        # The line of progress may be incomplete; a worker has no terminal.
        config = self._guard.config
        if self._guard.stopped and config.pluginmanager.hasplugin("terminalreporter"):
            writer = config.get_terminal_writer()
            if writer.width_of_current_line:
                writer.line()
        self.after_conftests(outcome)

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Any:
        """Write the sentence into the output of a worker, because its `UsageError` does not reach the controller.

        The innermost wrapper: it runs after the hooks of the project, and before the outer wrapper of xdist sends the output.
        """
        outcome = yield
        output = getattr(session.config, "workeroutput", None)
        self._has_output = output is not None
        if output is not None and self._guard.stopped:
            output[OUTPUT] = self._guard.stopped
            if outcome.excinfo is not None and issubclass(outcome.excinfo[0], ConnectionStopped):
                outcome.force_result([])

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_unconfigure(self) -> Any:
        """Print a connection from the project's own hook in a worker, which can no longer report it."""
        before = self._guard.stopped
        yield
        if self._has_output and self._guard.stopped and not before:
            print(f"\nERROR: {self._guard.stopped}", file=sys.stderr)  # below the line of progress

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """In the controller: end the run if a worker has stopped a connection."""
        sentence = getattr(node, "workeroutput", {}).get(OUTPUT)
        if sentence:
            raise pytest.UsageError(sentence)


def set_exception(outcome: Any, error: BaseException) -> None:
    """Set the exception of a hook's outcome, also with older versions of pluggy; raising in a wrapper would be a warning."""
    if hasattr(outcome, "force_exception"):
        outcome.force_exception(error)
    else:
        outcome._result, outcome._excinfo = None, (type(error), error, error.__traceback__)
