"""Shared code of the tests: a daemon that tests can kill and restart, psql, and a wait for a condition."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Optional, TypeVar

from daemon_process import DaemonProcess, free_port, fresh_data_directory, postgres_programs

import pgdibs

T = TypeVar("T")

SOURCES = Path(__file__).resolve().parent.parent.parent / "src"
REPOSITORY = SOURCES.parent.parent.parent


class Daemon:
    """A daemon on a data directory and a port of its own."""

    def __init__(self, **environment: str) -> None:
        self.directory = fresh_data_directory()
        self.listen = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.listen}"
        self._more = environment
        self.start()

    def start(self) -> None:
        """Start or restart the daemon, and wait until it is ready."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PGDIBS_")}
        environment.update(
            PGDIBS_LISTEN=self.listen,
            PGDIBS_DATA_DIR=str(self.directory / "data"),
            PGDIBS_PG_BIN_DIR=postgres_programs(),
            PGDIBS_LINGER_SECONDS="20",
            **self._more,
        )
        self.process = DaemonProcess([program(), "serve"], environment, self.url, self.directory / "daemon.log")
        self.process.wait_until_ready()

    def remove(self) -> None:
        """Stop the daemon and delete its data."""
        self.process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def program() -> str:
    """The program under test: $PGDIBS_BIN, else the debug build."""
    target = os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target"))
    return os.environ.get("PGDIBS_BIN", f"{target}/debug/pgdibs")


def psql(url: str, statement: str) -> str:
    """The unaligned output of psql for a statement; raises `CalledProcessError` if it fails."""
    command = [f"{postgres_programs()}/psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", url, "-c", statement]
    done = subprocess.run(command, check=True, timeout=30, capture_output=True, text=True)
    return done.stdout.strip()


def make_schema(url: str) -> None:
    """A build of a template."""
    psql(url, "create table notes (id int primary key)")


def eventually(condition: Callable[[], Optional[T]], within_seconds: float = 60.0) -> T:
    """Wait until `condition` returns a true value, and return it."""
    deadline = time.monotonic() + within_seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_seconds} s; last value: {value!r}"
        # The pause between two polls.
        time.sleep(0.02)


started: list[subprocess.Popen[str]] = []
"""The processes that a test has started with `python`; a failed test may leave them running, with children."""


def python(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start Python with the sources of the client and warnings as errors; the end of the test ends it."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCES), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started.append(process)
    return process


def end_started() -> None:
    """End the processes that a failed test has left, and their children."""
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    started.clear()


def finished(process: subprocess.Popen[str], within_seconds: float = 60.0) -> tuple[int, str, str]:
    """Its exit status, standard output and standard error."""
    out, err = process.communicate(timeout=within_seconds)
    return process.returncode, out, err


def table_exists(lease: pgdibs.Lease, name: str) -> bool:
    """Whether the leased database has this table."""
    return psql(lease.url, f"select to_regclass('{name}') is not null") == "t"
