"""Decides whether the process ends with the run, or continues with a program that called `pytest.main`."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Optional

PYTEST_MODULE = "_pytest.config"
ENTRY_POINTS = ("console_main", "_console_main")
"""The functions that `pytest`, `py.test` and `python -m pytest` call, and that `pytest.main` does not call."""


def is_pytest() -> bool:
    """Whether the pytest program itself, and not `pytest.main` alone, makes the configuration. Call it while that happens."""
    frame: Optional[FrameType] = sys._getframe(1)
    while frame is not None and not _is_in_pytest(frame, "_prepareconfig"):
        frame = frame.f_back
    # Only adjacent frames count, because a test that the pytest program runs may call `pytest.main` too.
    while frame is not None and _is_in_pytest(frame):
        if frame.f_code.co_name in ENTRY_POINTS:
            return True
        frame = frame.f_back
    return False


def _is_in_pytest(frame: FrameType, function: str = "") -> bool:
    return frame.f_globals.get("__name__") == PYTEST_MODULE and function in ("", frame.f_code.co_name)
