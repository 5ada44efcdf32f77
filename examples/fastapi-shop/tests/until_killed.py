"""Not collected by itself: `run_suites.py` names this file and kills the run in the middle of its test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.clean_database import LeasedDatabase


def test_a_process_writes_until_the_run_is_killed(database: LeasedDatabase) -> None:
    # In a session of its own, as a supervisor starts it: what kills pytest and its workers does not reach it.
    command = [sys.executable, "-m", "tests.writer", os.environ["SHOP_WRITER"]]
    writer = subprocess.Popen(command, cwd=Path(__file__).parents[1], start_new_session=True)
    try:
        writer.wait(timeout=120)
    finally:
        writer.kill()
        writer.wait()
    raise AssertionError("the run was not killed")
