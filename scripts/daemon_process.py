"""Starts a pgdibs daemon for a check, waits until it is ready, and stops it; prints its log when it misbehaves."""

from __future__ import annotations

import itertools
import os
import shutil
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


# Everything that a daemon tells to whoever may ask, and that must show no secret.
PAGES = ("/v1/status", "/metrics", "/readyz", "/v1/pools", "/v1/leases?state=all", "/v1/databases")
_numbers = itertools.count()


def kept_place(kind: str) -> Optional[Path]:
    """A file for the search for secrets at the end of a run of tests (run-parts.py names the directory); none without a run."""
    directory = os.environ.get("PGDIBS_TEST_LOGS")
    if not directory:
        return None
    Path(directory).mkdir(parents=True, exist_ok=True)
    return Path(directory) / f"{kind}-{os.getpid()}-{next(_numbers)}.log"


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
        self._token = environment.get("PGDIBS_TOKEN")
        self._server_log = Path(environment["PGDIBS_DATA_DIR"]) / "server.log" if "PGDIBS_DATA_DIR" in environment else None
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
        self._keep_pages()
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
        self._keep_logs()
        if status not in (accept or {0}):
            raise DaemonError(f"the daemon ended with {status} after {sent.name}\n{self.tail()}")
        return time.monotonic() - started

    def kill(self) -> None:
        """Ends the daemon's process group at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._keep_logs()

    def _keep_logs(self) -> None:
        """Copies the daemon's log and its server's for the search at the end; both go with their directory."""
        for kind, log in (("daemon", self.log), ("postgres", self._server_log)):
            place = kept_place(kind)
            if place and log and log.exists():
                shutil.copyfile(log, place)

    def _keep_pages(self) -> None:
        """Writes down what the daemon shows, if it still answers."""
        place = kept_place("pages")
        if place is None or self._process.poll() is not None:
            return
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        with place.open("w", encoding="utf-8") as out:
            for page in PAGES:
                request = urllib.request.Request(f"{self.url}{page}", headers=headers)
                try:
                    with urllib.request.urlopen(request, timeout=5) as response:
                        text = response.read().decode(errors="replace")
                except urllib.error.HTTPError as error:
                    text = error.read().decode(errors="replace")
                except OSError as error:
                    text = str(error)
                out.write(f"GET {page}: {text}\n")

    def tail(self, lines: int = 40) -> str:
        """The last lines of what the daemon said."""
        said = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- the end of {self.log}:", *said])
