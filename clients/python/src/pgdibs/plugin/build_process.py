"""Runs the command that builds a template, and prints its progress."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

AGAIN_SECONDS = 10.0
"""The interval of the lines about a build that goes on."""

OUTPUT_LINES = 30
"""How many lines of the output are kept; the last ones are."""

REST_SECONDS = 5.0
"""How long to wait for the end of the output after the end of the command: a process in the background may hold it open."""

SHOWN_CHARACTERS = 100
"""How many characters of the last line of output a line of progress shows."""


def run_build(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    limit_seconds: float,
    print_line: Callable[[str], None],
) -> tuple[int, list[str]]:
    """The exit status and the last lines of the output. Every 10 seconds says how long the command has run, and its last line.

    Raises `OSError` if the command does not start, and `subprocess.TimeoutExpired` after it has ended a command at the limit.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        [shutil.which(command[0], path=environment["PATH"]) or command[0], *command[1:]],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines: deque[str] = deque(maxlen=OUTPUT_LINES)

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            lines.extend(process.stdout)

    reader = threading.Thread(target=read, name="pgdibs-build-output", daemon=True)
    reader.start()
    while True:
        passed = time.monotonic() - started
        try:
            status = process.wait(min(AGAIN_SECONDS, max(0.0, limit_seconds - passed)))
        except subprocess.TimeoutExpired:
            passed = time.monotonic() - started
            if passed >= limit_seconds:
                process.kill()
                process.wait()
                raise
            last = next((line.strip() for line in reversed([*lines]) if line.strip()), "")
            print_line(f"still building after {passed:.0f} s{last and f': {last[:SHOWN_CHARACTERS]}'}")
            continue
        except BaseException:  # Ctrl-C
            process.kill()
            process.wait()
            raise
        reader.join(REST_SECONDS)
        return status, [line.rstrip("\n") for line in [*lines]]
