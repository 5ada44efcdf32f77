"""Starts a daemon when none answers, under a lock, so that runs that begin together start one."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pgdibs.errors import PgdibsError, Unreachable
from pgdibs.program import find_program

if TYPE_CHECKING:
    from pgdibs.client import Client

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def ensure_daemon(client: Client, *, timeout_seconds: float = 60.0) -> None:
    """Come back when a daemon answers and is ready; the one that is started here goes on when this process has ended.

    Raises `PgdibsError` when it cannot be started, or is not ready in time.
    """
    if _answers(client):
        return
    address = urlsplit(client.url)
    if address.hostname not in LOOPBACK or address.scheme != "http":
        raise Unreachable(f"no pgdibs daemon answers at {client.url}, and only one on this machine can be started from here")
    listen = f"{address.hostname}:{address.port or 80}"
    place = Path(tempfile.gettempdir()) / f"pgdibs-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.stat().st_uid != os.getuid():
        raise PgdibsError(f"{place} belongs to somebody else; remove it, or start the daemon yourself: pgdibs serve")
    log = place / f"daemon-{address.port or 80}.log"
    deadline = time.monotonic() + timeout_seconds
    with (place / f"daemon-{address.port or 80}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _answers(client):
            return
        with log.open("wb") as output:
            daemon = subprocess.Popen(
                [find_program(), "serve", "--listen", listen],
                cwd=Path.cwd(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while not _answers(client):
            if daemon.poll() is not None or time.monotonic() > deadline:
                said = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                what = "did not get ready" if daemon.poll() is None else f"ended with {daemon.returncode}"
                raise PgdibsError(f"the daemon that was started for {client.url} {what}; {log} ends with:\n{said}")
            # The pause between two looks; the deadline bounds them.
            time.sleep(0.05)


def _answers(client: Client) -> bool:
    try:
        return client.ask("GET", "/readyz", timeout=5.0).status == 200
    except Unreachable:
        return False
