"""What run_suites.py is made of: a pytest that runs and how it ended, and a daemon of its own that may be killed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pgdibs import Client, Unreachable

ROOT = Path(__file__).parent
IS_BUILT_BY_DAEMON = os.environ.get("SHOP_TEMPLATE") == "daemon"
SOURCE = ["-o", "pgdibs_fingerprint=", "-o", "pgdibs_build="] if IS_BUILT_BY_DAEMON else []
READY_SECONDS = 120.0


# Lines that pgdibs prints about a build or a wait while it lasts.
PROGRESS = re.compile(r"^pgdibs: (?:gw\d+: )?(?:building the template|still building|waiting: ).*$", re.MULTILINE)


@dataclass
class Run:
    """One pytest, and how it has to end."""

    arguments: list[str]
    exit_code: int = 0
    failed: int = 0
    output: str = ""
    ended_with: int | None = None

    def counted(self, what: str) -> int:
        """How many tests `passed` or `failed`, by pytest's last line."""
        found = re.findall(rf"(\d+) {what}", self.output)
        return int(found[-1]) if found else 0

    @property
    def is_good(self) -> bool:
        """Whether it ended as it has to, with tests in it and without a word about a lease that went wrong."""
        as_expected = (self.ended_with, self.counted("failed"), self.counted("error")) == (
            self.exit_code,
            self.failed,
            0,
        )
        return as_expected and self.counted("passed") > 0 and "pgdibs: " not in PROGRESS.sub("", self.output)


class Running:
    """A pytest in a process group of its own, whose output can be read while it runs."""

    def __init__(
        self, python: str, arguments: list[str], directory: Path = ROOT, environment: dict[str, str] | None = None
    ) -> None:
        descriptor, name = tempfile.mkstemp(prefix="shop-output-")
        self._file = Path(name)
        with os.fdopen(descriptor, "w") as file:
            self.process = subprocess.Popen(
                [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SOURCE, *arguments],
                cwd=directory,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        """What it has written so far."""
        return self._file.read_text(errors="replace")

    def forget(self) -> None:
        """Remove the file."""
        self._file.unlink()


class OwnDaemon:
    """A daemon of this program's own, which may be killed."""

    current: OwnDaemon

    def __init__(self, data: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.listen = f"127.0.0.1:{probe.getsockname()[1]}"
        self._data = data
        self.start()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        program = os.environ.get("PGDIBS_BIN") or shutil.which("pgdibs") or "pgdibs"
        command = [program, "serve", "--listen", self.listen, "--data-dir", str(self._data / "data")]
        with (self._data / "log").open("ab") as log:
            # In ROOT it reads pgdibs.toml, and builds the template itself.
            place = ROOT if IS_BUILT_BY_DAEMON else self._data
            self._process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log, start_new_session=True)
        client, deadline = Client(f"http://{self.listen}"), time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(Unreachable):
                if client.ask("GET", "/readyz").status == 200:
                    break
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the daemon did not get ready:\n{(self._data / 'log').read_text()}")
            time.sleep(0.1)  # the pause between two looks
        client.close()

    def kill(self) -> None:
        """At once, without a word to it."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """In order, with its Postgres."""
        self._process.terminate()
        self._process.wait(60)


@contextlib.contextmanager
def own_daemon() -> Iterator[None]:
    """A daemon that this program may kill; PGDIBS_URL names it meanwhile."""
    before = os.environ.get("PGDIBS_URL")
    data = Path(tempfile.mkdtemp(prefix="shop-daemon-"))
    data.chmod(0o711)  # the unprivileged user that Postgres runs as passes through
    OwnDaemon.current = OwnDaemon(data)
    os.environ["PGDIBS_URL"] = f"http://{OwnDaemon.current.listen}"
    try:
        yield
    finally:
        OwnDaemon.current.stop()
        shutil.rmtree(data, ignore_errors=True)
        os.environ.pop("PGDIBS_URL")
        if before is not None:
            os.environ["PGDIBS_URL"] = before
