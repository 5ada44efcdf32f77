"""Ends the run on SIGTERM, as of a cancelled CI job; without a handler Python would exit without releasing the leases."""

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
"""The timeout of the request; CI systems send SIGKILL some seconds after SIGTERM."""


def end_run_on_sigterm(config: pytest.Config, url: Optional[str], run: str) -> None:
    """Before SIGTERM ends this process, end the run and its leases. Does nothing if another handler is installed."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    process = os.getpid()

    def terminate(number: int, frame: Optional[FrameType]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() == process:
            # A client of its own, because the signal may interrupt a call of another client.
            with suppress(PgdibsError):
                Client(url).ask("DELETE", f"/v1/runs/{quote(run)}", timeout=ANSWER_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    def restore() -> None:
        if signal.getsignal(signal.SIGTERM) is terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, terminate)
    config.add_cleanup(restore)
