"""Starts a pgdibs daemon for a test, waits until it is ready, and stops it; errors have the end of its log."""

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
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Optional

REPOSITORY = Path(__file__).resolve().parents[4]
READY_WITHIN_SECONDS = 120.0
STOPPED_WITHIN_SECONDS = 20.0
# The pages of a daemon, which must show no secret.
PAGES = ("/", "/v1/status", "/metrics", "/readyz", "/v1/pools", "/v1/leases?state=all", "/v1/databases")
_numbers = itertools.count()


class DaemonError(Exception):
    """The daemon did not start, was not ready in time, or did not end in order."""


def free_port() -> int:
    """A TCP port on the loopback address without a listener at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_programs() -> str:
    """The programs of the Postgres for the daemon: the configured one, an installed one, or a fetched one."""
    if configured := os.environ.get("PGDIBS_PG_BIN_DIR"):
        return configured
    return subprocess.check_output([REPOSITORY / "scripts/fetch-postgres.sh", "any"], text=True).strip()


def program() -> str:
    """The program under test: $PGDIBS_BIN, else the debug build."""
    target = os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target"))
    return os.environ.get("PGDIBS_BIN", f"{target}/debug/pgdibs")


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
        self._environment = environment
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_until_ready(self, within_seconds: float = READY_WITHIN_SECONDS) -> None:
        """Returns when `/readyz` answers 200; otherwise raises with the last answer and the end of the log."""
        deadline = time.monotonic() + within_seconds
        while True:
            status, answer = self._get("/readyz")
            if status == 200:
                return
            if self._process.poll() is not None:
                raise DaemonError(f"the daemon ended with {self._process.returncode}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise DaemonError(f"{self.url}/readyz was not 200 within {within_seconds:.0f} s: {answer}\n{self.tail()}")
            # The pause between two probes of a level, not a wait for an event.
            time.sleep(0.1)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM, accept: Collection[int] = (0,)) -> None:
        """Ends the daemon in order; SIGINT goes to its process group, as from a terminal. Any other exit status raises."""
        if self._process.poll() is None:
            for file in self._kept_file("pages"):
                file.write_text("".join(f"GET {page}: {self._get(page)}\n" for page in PAGES), encoding="utf-8")
            (os.killpg if with_signal == signal.SIGINT else os.kill)(self._process.pid, with_signal)
        try:
            status = self._process.wait(STOPPED_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DaemonError(f"still running {STOPPED_WITHIN_SECONDS:.0f} s after {with_signal.name}\n{self.tail()}") from None
        self._keep_logs()
        if status not in accept:
            raise DaemonError(f"the daemon ended with {status} after {with_signal.name}\n{self.tail()}")

    def kill(self) -> None:
        """Ends the daemon's process group at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._keep_logs()

    def tail(self) -> str:
        """The last lines of the log."""
        return "\n".join([f"--- the end of {self.log}:", *self.log.read_text(errors="replace").splitlines()[-40:]])

    def _get(self, page: str) -> tuple[int, str]:
        """The status and the text of a page; status 0 if there is no answer."""
        headers = {"Authorization": f"Bearer {self._environment.get('PGDIBS_TOKEN', '')}"}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + page, headers=headers), timeout=5) as response:
                return response.status, response.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except OSError as error:
            return 0, str(error)

    def _keep_logs(self) -> None:
        """Copies the logs of the daemon and its server for the search for secrets, before their directory is deleted."""
        logs = {"daemon": self.log, "postgres": Path(self._environment.get("PGDIBS_DATA_DIR", "")) / "server.log"}
        for kind, log in logs.items():
            for file in self._kept_file(kind):
                if log.exists():
                    shutil.copyfile(log, file)

    @staticmethod
    def _kept_file(kind: str) -> list[Path]:
        """A new file for the search for secrets at the end of a run of all tests; none in other runs."""
        directory: Optional[str] = os.environ.get("PGDIBS_TEST_LOGS")
        if not directory:
            return []
        Path(directory).mkdir(parents=True, exist_ok=True)
        return [Path(directory) / f"{kind}-{os.getpid()}-{next(_numbers)}.log"]


class TemporaryDaemon(DaemonProcess):
    """A ready daemon with a token, on a port and a data directory of its own (`data`, or a fresh one); `variables` lead to it."""

    def __init__(self, data: Optional[Path] = None) -> None:
        self.data = data or fresh_data_directory()
        listen = f"127.0.0.1:{free_port()}"
        # find-secrets.sh searches for this prefix.
        token = f"pgdibstk{os.urandom(16).hex()}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PGDIBS_")}
        environment.update(
            PGDIBS_TOKEN=token,
            PGDIBS_LISTEN=listen,
            PGDIBS_DATA_DIR=str(self.data / "data"),
            PGDIBS_PG_BIN_DIR=postgres_programs(),
        )
        self.variables = {"PGDIBS_URL": f"http://{listen}", "PGDIBS_TOKEN": token, "PGDIBS_BIN": str(Path(program()).resolve())}
        super().__init__([program(), "serve"], environment, f"http://{listen}", self.data / "daemon.log")
        try:
            self.wait_until_ready()
        except DaemonError:
            self.kill()
            raise

    def restart(self) -> None:
        """Stops the daemon and starts one on the same data, at the same address."""
        self.stop()
        super().__init__([program(), "serve"], self._environment, self.url, self.log)
        self.wait_until_ready()
