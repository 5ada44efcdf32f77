"""Starts a pgdibs daemon for a check, waits until it is ready, and stops it; errors have the end of its log."""

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


# The pages of a daemon, which must show no secret.
PAGES = ("/v1/status", "/metrics", "/readyz", "/v1/pools", "/v1/leases?state=all", "/v1/databases")
_numbers = itertools.count()


def kept_file(kind: str) -> Optional[Path]:
    """A new file for the search for secrets at the end of a test run; None outside a run (run-tasks.py sets the directory)."""
    directory = os.environ.get("PGDIBS_TEST_LOGS")
    if not directory:
        return None
    Path(directory).mkdir(parents=True, exist_ok=True)
    return Path(directory) / f"{kind}-{os.getpid()}-{next(_numbers)}.log"


class DaemonError(Exception):
    """The daemon did not start, was not ready in time, or did not end in order."""


def free_port() -> int:
    """A TCP port on the loopback address without a listener at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether this port of the loopback address has no listener."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def postgres_programs() -> str:
    """The programs of the Postgres for the daemon: the configured one, an installed one, or a fetched one."""
    if configured := os.environ.get("PGDIBS_PG_BIN_DIR"):
        return configured
    script = Path(__file__).resolve().parent / "fetch-postgres.sh"
    return subprocess.run([str(script), "any"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def fresh_data_directory() -> Path:
    """An empty directory that the user of Postgres can pass through."""
    directory = Path(tempfile.mkdtemp(prefix="pgdibs-check-", dir="/tmp"))
    directory.chmod(0o711)
    return directory


class DaemonProcess:
    """A daemon in a process group of its own; its output goes to a file beside its data."""

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
        """Returns when `/readyz` answers 200; otherwise raises with the last answer and the end of the log."""
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
            # The pause between two probes of a level, not a wait for an event.
            time.sleep(POLL_EVERY_SECONDS)
        raise DaemonError(f"{self.url}/readyz was not 200 within {within_seconds:.0f} s; last: {last}\n{self.tail()}")

    def stop(
        self, signal_number: signal.Signals = signal.SIGTERM, to_group: bool = False, accept: Optional[set[int]] = None
    ) -> float:
        """Ends the daemon in order and returns the seconds it took; any exit status but 0 (or `accept`) raises."""
        self._keep_pages()
        started = time.monotonic()
        if self._process.poll() is None:
            if to_group:
                os.killpg(self._process.pid, signal_number)
            else:
                self._process.send_signal(signal_number)
        try:
            status = self._process.wait(STOPPED_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DaemonError(f"still running {STOPPED_WITHIN_SECONDS:.0f} s after {signal_number.name}\n{self.tail()}") from None
        self._keep_logs()
        if status not in (accept or {0}):
            raise DaemonError(f"the daemon ended with {status} after {signal_number.name}\n{self.tail()}")
        return time.monotonic() - started

    def kill(self) -> None:
        """Ends the daemon's process group at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._keep_logs()

    def _keep_logs(self) -> None:
        """Copies the logs of the daemon and its server for the search for secrets, before their directory is deleted."""
        for kind, log in (("daemon", self.log), ("postgres", self._server_log)):
            file = kept_file(kind)
            if file and log and log.exists():
                shutil.copyfile(log, file)

    def _keep_pages(self) -> None:
        """Writes the pages of the daemon to a file, if it still runs."""
        file = kept_file("pages")
        if file is None or self._process.poll() is not None:
            return
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        with file.open("w", encoding="utf-8") as out:
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
        """The last lines of the log."""
        last_lines = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- the end of {self.log}:", *last_lines])
