"""SIGTERM, as a cancelled CI job sends it: Python ends at once, and nobody would give the databases back."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Optional
from urllib.parse import quote

import pytest

from pgdibs.client import Client
from pgdibs.errors import PgdibsError

ANSWER_SECONDS = 3.0
"""Whoever sends SIGTERM sends SIGKILL some seconds later."""


def end_the_run_on_sigterm(config: pytest.Config, url: Optional[str], run: str) -> None:
    """End the run with all it holds before SIGTERM ends this process; a handler of somebody else's is left alone."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    process = os.getpid()

    def terminate(number: int, frame: Optional[FrameType]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() == process:
            # A client of its own: the signal may have come in the middle of another one's call.
            with suppress(PgdibsError):
                Client(url).ask("DELETE", f"/v1/runs/{quote(run)}", timeout=ANSWER_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    def restore() -> None:
        if signal.getsignal(signal.SIGTERM) is terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, terminate)
    config.add_cleanup(restore)
