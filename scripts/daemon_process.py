"""Starts a pgdibs daemon for a check, waits until it is ready, and stops it; prints its log when it misbehaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

READY_WITHIN_SECONDS = 120.0
STOPPED_WITHIN_SECONDS = 20.0
POLL_EVERY_SECONDS = 0.1


class DaemonError(Exception):
    """The daemon did not start, was not ready in time, or did not end in order."""


def free_port() -> int:
    """A TCP port on the loopback address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def postgres_programs() -> str:
    """The directory of the Postgres that the daemon shall use: the one configured, an installed one, or a fetched one."""
    if configured := os.environ.get("PGDIBS_PG_BIN_DIR"):
        return configured
    script = Path(__file__).resolve().parent / "fetch-postgres.sh"
    return subprocess.run([str(script), "any"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def fresh_data_directory() -> Path:
    """An empty directory that the unprivileged user Postgres runs as can pass through."""
    directory = Path(tempfile.mkdtemp(prefix="pgdibs-check-", dir="/tmp"))
    directory.chmod(0o711)
    return directory


class DaemonProcess:
    """One daemon in a process group of its own, its output in a file beside its data."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], url: str, log: Path):
        self.url = url
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self, within_seconds: float = READY_WITHIN_SECONDS) -> None:
        """Returns when `/readyz` answers 200; raises with the last answer and the log's end otherwise."""
        deadline = time.monotonic() + within_seconds
        last = "no answer yet"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise DaemonError(f"the daemon ended with {self._process.returncode}\n{self.tail()}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                    return
            except urllib.error.HTTPError as error:
                last = f"{error.code}: {error.read(2000).decode(errors='replace')}"
            except OSError as error:
                last = str(error)
            # The pause between two polls of a level, not a wait for an event.
            time.sleep(POLL_EVERY_SECONDS)
        raise DaemonError(f"{self.url}/readyz was not 200 within {within_seconds:.0f} s; last: {last}\n{self.tail()}")

    def stop(self, sent: signal.Signals = signal.SIGTERM, to_group: bool = False, accept: Optional[set[int]] = None) -> float:
        """Ends the daemon in order and returns the seconds it took; any exit status but 0 (or `accept`) raises."""
        started = time.monotonic()
        if self._process.poll() is None:
            if to_group:
                os.killpg(self._process.pid, sent)
            else:
                self._process.send_signal(sent)
        try:
            status = self._process.wait(STOPPED_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DaemonError(f"still running {STOPPED_WITHIN_SECONDS:.0f} s after {sent.name}\n{self.tail()}") from None
        if status not in (accept or {0}):
            raise DaemonError(f"the daemon ended with {status} after {sent.name}\n{self.tail()}")
        return time.monotonic() - started

    def kill(self) -> None:
        """Ends the daemon's process group at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def tail(self, lines: int = 40) -> str:
        """The last lines of what the daemon said."""
        said = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- the end of {self.log}:", *said])
