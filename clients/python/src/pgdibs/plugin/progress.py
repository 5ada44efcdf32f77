"""Prints at once, to standard error, what a run waits for: before the first test, during tests, and in xdist's workers."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

import pytest

AGAIN_SECONDS = 10.0
"""The pause before the second line about the same wait; each further pause is twice as long."""


class Progress:
    """Lines about one process. Made before pytest captures output, so that it can print at any time."""

    def __init__(self, config: pytest.Config, worker: str = "") -> None:
        self._config = config
        self._worker = worker
        self._stream = _own_standard_error(config)
        self._begun = 0.0
        """When the present wait began."""
        self._pause = 0.0
        """How many seconds of the present wait pass before the next line about it."""

    def print_line(self, line: str) -> None:
        """Print a line now."""
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        is_within_line = bool(getattr(getattr(reporter, "_tw", None), "width_of_current_line", 0))
        worker = f"{self._worker}: " if self._worker else ""
        with suppress(OSError, ValueError):  # closed by the project, or a full disk
            self._stream.write(f"{chr(10) if is_within_line else ''}pgdibs: {worker}{line}\n")
            self._stream.flush()

    def wait(self, sentence: str, seconds: float) -> None:
        """Print why the daemon lets a request wait, for so many seconds until now: at once, then at growing intervals."""
        begun = time.monotonic() - seconds
        if begun - self._begun > 0.5:  # another request
            self._begun, self._pause = begun, 0.0
        if seconds >= self._pause:
            self._pause = max(AGAIN_SECONDS, 2 * seconds)
            self.print_line(f"waiting: {sentence}")


def _own_standard_error(config: pytest.Config) -> TextIO:
    """A copy of standard error that pytest's capture does not redirect."""
    try:
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace")
    except (AttributeError, OSError, ValueError):  # no file, as within a program that replaces it
        return sys.stderr
    config.add_cleanup(stream.close)
    return stream
