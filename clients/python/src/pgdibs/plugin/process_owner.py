"""Says whether the process ends with pytest's run, or goes on with the program that called `pytest.main`."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Optional

PYTEST_MODULE = "_pytest.config"
ENTRY_POINTS = ("console_main", "_console_main")
"""What `pytest`, `py.test` and `python -m pytest` call; a program calls `pytest.main`, which calls neither."""


def is_pytest() -> bool:
    """Whether the configuration that is being made is that of pytest's own program; called while it is made."""
    frame: Optional[FrameType] = sys._getframe(1)
    while frame is not None and not _is_in_pytest(frame, "_prepareconfig"):
        frame = frame.f_back
    # Only frames without a gap: a test may call `pytest.main` too, and is itself called by the program.
    while frame is not None and _is_in_pytest(frame):
        if frame.f_code.co_name in ENTRY_POINTS:
            return True
        frame = frame.f_back
    return False


def _is_in_pytest(frame: FrameType, function: str = "") -> bool:
    return frame.f_globals.get("__name__") == PYTEST_MODULE and function in ("", frame.f_code.co_name)
