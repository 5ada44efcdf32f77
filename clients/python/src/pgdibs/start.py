"""Starts the bundled daemon when none answers, under a lock, so that runs which begin together start one.

The daemon is left for the next run. It ends by itself when nobody has used it for a while, and its Postgres some minutes later.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Optional
from urllib.parse import urlsplit

from pgdibs.errors import PgdibsError, Unreachable, of_answer
from pgdibs.program import find_program

if TYPE_CHECKING:
    from pgdibs.client import Client

IDLE_SECONDS = 900
"""How long the daemon goes on when nobody asks for anything, and nobody has a lease or a kept database."""

LOOK_EVERY_SECONDS = 0.05
"""Between two looks at a daemon that starts."""

ANSWER_SECONDS = 5.0
"""How long one look waits for its answer."""

LINES_SHOWN = 10
"""How much of the log of a daemon that did not start is shown."""


def ensure_daemon(client: Client, *, timeout_seconds: float = 60.0) -> None:
    """Come back when a daemon answers at `client.url` and its Postgres is there; start one if need be.

    Raises `PgdibsError` with the end of the daemon's log when it does not start in time, and `Unreachable` when the address is
    not one of this machine's loopback, where no daemon can be started from here.
    """
    deadline = time.monotonic() + timeout_seconds
    if _look(client) == "ready":
        return
    listen = _listen_address(client.url)
    place = _place()
    name = listen.replace(":", "-").replace("[", "").replace("]", "")
    with _lock(place / f"daemon-{name}.lock", deadline, client.url):
        process, log = None, place / f"daemon-{name}.log"
        while True:
            seen = _look(client)
            if seen == "ready":
                if process is not None:
                    # Python complains of a child that it forgets and that still runs; this one shall.
                    process.returncode = 0
                return
            if process is None and seen == "nobody":
                process = _start(listen, log, client.token)
            has_ended = process is not None and process.poll() is not None
            if has_ended or time.monotonic() > deadline:
                raise PgdibsError(_why(client.url, process, log, seen, timeout_seconds))
            # A look has no side effect; a tighter loop would only take the processor that the daemon needs.
            time.sleep(LOOK_EVERY_SECONDS)


def _look(client: Client) -> str:
    """`ready`, `nobody` (there), or what the daemon says that it still lacks. Raises when our token is not the daemon's."""
    try:
        # No probe: the daemon counts this as use, so that it does not end between this look and the first lease.
        answer = client.ask("GET", "/v1/pools", timeout=ANSWER_SECONDS)
    except Unreachable as error:
        return "nobody" if isinstance(error.__cause__, ConnectionRefusedError) else str(error)
    if answer.status == 200:
        return "ready"
    refusal = of_answer(answer.status, answer.body)
    if answer.status < 500:
        raise refusal
    return str(refusal)


def _listen_address(url: str) -> str:
    address = urlsplit(url)
    host = address.hostname or ""
    if address.scheme != "http" or host not in ("127.0.0.1", "localhost", "::1"):
        raise Unreachable(
            f"no pgdibs daemon answers at {url}, and from here one can be started only on this machine's loopback: "
            "start it there with `pgdibs serve`, or set PGDIBS_URL to http://127.0.0.1:7432"
        )
    return f"[{host}]:{address.port or 80}" if ":" in host else f"{host}:{address.port or 80}"


def _place() -> Path:
    """A directory of this user's own, for locks and logs."""
    place = Path(tempfile.gettempdir()) / f"pgdibs-{os.getuid()}"
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    if place.is_symlink() or found.st_uid != os.getuid():
        raise PgdibsError(f"{place} belongs to somebody else; remove it, or start the daemon yourself with `pgdibs serve`")
    return place


@contextmanager
def _lock(path: Path, deadline: float, url: str) -> Iterator[None]:
    """Ours alone; it goes with the process, however that ends."""
    import fcntl

    # The daemon must not inherit it: it would hold the lock for as long as it lives.
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
            # Not a blocking lock, which would know no deadline.
            time.sleep(LOOK_EVERY_SECONDS)
        yield


def _start(listen: str, log: Path, token: Optional[str]) -> subprocess.Popen[bytes]:
    command = [find_program(), "serve", "--listen", listen, "--end-when-idle", str(IDLE_SECONDS)]
    with log.open("wb") as output:
        # In a session of its own, so that the Ctrl-C of this run is not the daemon's.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PGDIBS_TOKEN": token} if token else None,
            start_new_session=True,
        )


def _why(url: str, process: Optional[subprocess.Popen[bytes]], log: Path, seen: str, timeout_seconds: float) -> str:
    if process is None:
        return f"the daemon at {url} is not ready after {timeout_seconds:.0f} s: {seen}"
    status = process.poll()
    what = f"ended with {status}" if status is not None else f"is not ready after {timeout_seconds:.0f} s ({seen})"
    lines = log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
    return "\n".join([f"the daemon that was started for {url} {what}; the end of {log}:", *lines])
