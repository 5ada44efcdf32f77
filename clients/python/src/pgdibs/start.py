"""Starts the bundled daemon when none answers, under a lock, so that concurrent runs start only one.

The daemon outlives the run. It ends after some idle time, and its Postgres some minutes later.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Optional
from urllib.parse import urlsplit

from pgdibs.errors import PgdibsError, Unreachable, of_answer
from pgdibs.heartbeat import warn
from pgdibs.program import find_program

if TYPE_CHECKING:
    from pgdibs.calls import Caller

IDLE_SECONDS = 900
"""The daemon ends after so long without requests, leases and kept databases."""

PROBE_EVERY_SECONDS = 0.05
"""The pause between two probes of a daemon that starts."""

ANSWER_SECONDS = 5.0
"""The timeout of one probe."""

LINES_SHOWN = 10
"""How many log lines of a daemon that did not start the error shows."""


def ensure_daemon(client: Caller, *, timeout_seconds: float = 60.0, print_line: Callable[[str], None] = warn) -> None:
    """Return when a daemon answers at `client.url` and its Postgres is ready; start a daemon if none answers.

    `print_line` prints a line about the start, which names the daemon's log; by default to standard error.

    Raises `PgdibsError` with the end of the daemon's log if it does not start in time, and `Unreachable` if the address is not a
    loopback address of this machine.
    """
    deadline = time.monotonic() + timeout_seconds
    if _probe(client) == "ready":
        return
    listen = _listen_address(client.url)
    directory = _state_directory()
    name = listen.replace(":", "-").replace("[", "").replace("]", "")
    with _lock(directory / f"daemon-{name}.lock", deadline, client.url):
        process, log = None, directory / f"daemon-{name}.log"
        while True:
            state = _probe(client)
            if state == "ready":
                if process is not None:
                    # Python warns about a child that still runs; the daemon is meant to.
                    process.returncode = 0
                return
            if process is None and state == "absent":
                print_line(f"starting a daemon at {client.url}; its log is {log}")
                process = _start(listen, log, client.token)
            has_ended = process is not None and process.poll() is not None
            if has_ended or time.monotonic() > deadline:
                raise PgdibsError(_failure(client.url, process, log, state, timeout_seconds))
            # A tighter loop would take processor time that the daemon needs.
            time.sleep(PROBE_EVERY_SECONDS)


def _probe(client: Caller) -> str:
    """`ready`, `absent`, or the daemon's reason for not being ready. Raises if the daemon refuses the token."""
    try:
        # Not /readyz: the daemon counts this request as use, so it does not end between the probe and the first lease.
        answer = client.ask("GET", "/v1/pools", timeout=ANSWER_SECONDS)
    except Unreachable as error:
        return "absent" if isinstance(error.__cause__, ConnectionRefusedError) else str(error)
    if answer.status == 200:
        return "ready"
    problem = of_answer(answer.status, answer.body)
    if answer.status < 500:
        raise problem
    return str(problem)


def _listen_address(url: str) -> str:
    address = urlsplit(url)
    host = address.hostname or ""
    if address.scheme != "http" or host not in ("127.0.0.1", "localhost", "::1"):
        raise Unreachable(
            f"no pgdibs daemon answers at {url}, and pgdibs starts one only on a loopback address of this machine: "
            "start it there with `pgdibs serve`, or set PGDIBS_URL to http://127.0.0.1:7432"
        )
    return f"[{host}]:{address.port or 80}" if ":" in host else f"{host}:{address.port or 80}"


def _state_directory() -> Path:
    """The directory of this user for locks and logs."""
    directory = Path(tempfile.gettempdir()) / f"pgdibs-{os.getuid()}"
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if directory.is_symlink() or found.st_uid != os.getuid():
        raise PgdibsError(f"{directory} belongs to another user; remove it, or start the daemon yourself with `pgdibs serve`")
    return directory


@contextmanager
def _lock(path: Path, deadline: float, url: str) -> Iterator[None]:
    """Hold an exclusive lock, which the end of the process releases."""
    import fcntl

    # Python opens files without inheritance, so the daemon does not hold the lock.
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PgdibsError(
                        f"another run has been starting the daemon at {url} for too long; its log is {path.with_suffix('.log')}"
                    ) from None
            # Polled, because a blocking lock has no deadline.
            time.sleep(PROBE_EVERY_SECONDS)
        yield


def _start(listen: str, log: Path, token: Optional[str]) -> subprocess.Popen[bytes]:
    command = [find_program(), "serve", "--listen", listen, "--end-when-idle", str(IDLE_SECONDS)]
    with log.open("wb") as output:
        # In a session of its own, so that Ctrl-C in this run does not reach the daemon.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PGDIBS_TOKEN": token} if token else None,
            start_new_session=True,
        )


def _failure(url: str, process: Optional[subprocess.Popen[bytes]], log: Path, state: str, timeout_seconds: float) -> str:
    if process is None:
        return f"the daemon at {url} is not ready after {timeout_seconds:.0f} s: {state}"
    status = process.poll()
    what = f"ended with {status}" if status is not None else f"is not ready after {timeout_seconds:.0f} s ({state})"
    lines = log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
    return "\n".join([f"the daemon that was started for {url} {what}; the end of {log}:", *lines])
