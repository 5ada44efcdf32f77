"""Projects whose pytest runs in separate processes, with xdist, against a daemon of these tests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

import pytest

from pgdibs import Client

REPOSITORY = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from daemon_process import DaemonProcess as DaemonProcess  # noqa: E402
from daemon_process import free_port as free_port  # noqa: E402
from daemon_process import fresh_data_directory  # noqa: E402
from daemon_process import postgres_programs as postgres_programs  # noqa: E402

T = TypeVar("T")

SCHEMA = "create table notes (id int generated always as identity primary key, body text);\n"
BUILD = f"{shutil.which('psql') or 'psql'} -qf schema.sql"
PLUGINS = ["-p", "xdist", "-p", "pgdibs.pytest_plugin"]
"""The plugins of the inner pytest; it does not load other installed ones. One test loads the plugin by its entry point."""


def eventually(condition: Callable[[], T], within_seconds: float = 60.0) -> T:
    """Wait until `condition` returns a true value, and return it; fails at the deadline."""
    deadline = time.monotonic() + within_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {within_seconds:.0f} s: {condition.__name__}")
        # The pause between two polls.
        time.sleep(0.02)


def blocks_of(page: str, heading: str) -> dict[str, str]:
    """The files under a heading of a page in docs/: the fenced blocks that have a name, by name."""
    return named_blocks(section_of(page, heading))


def all_blocks_of(page: str) -> dict[str, str]:
    """The files of a whole page in docs/."""
    return named_blocks((REPOSITORY / "docs" / page).read_text())


def named_blocks(text: str) -> dict[str, str]:
    """The fenced blocks of a text that have a name, by name."""
    return dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


def shell_blocks_of(page: str, heading: str) -> list[str]:
    """The commands under a heading of a page in docs/: the fenced blocks `sh` without a name."""
    return re.findall(r"^```sh\n(.*?)^```$", section_of(page, heading), re.DOTALL | re.MULTILINE)


def section_of(page: str, heading: str) -> str:
    """The text under a heading of a page in docs/; with an empty heading, the text above the first one."""
    text = (REPOSITORY / "docs" / page).read_text()
    start = rf"^## {re.escape(heading)}\n" if heading else r"\A"
    (section,) = re.findall(rf"{start}(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return str(section)


class Daemon:
    """A daemon that tests can kill and restart on the same data."""

    def __init__(self, token: str = "", server_url: str = "") -> None:
        self.token = token
        self.server_url = server_url
        self.listen = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.listen}"
        self.data = fresh_data_directory()
        target = os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target"))
        self.program = os.environ.get("PGDIBS_BIN", f"{target}/debug/pgdibs")
        self._starts = 0
        self.process = self.start()

    def start(self) -> DaemonProcess:
        """Start it and wait until it is ready."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PGDIBS_")}
        environment.update(
            PGDIBS_LISTEN=self.listen, PGDIBS_DATA_DIR=str(self.data / "data"), PGDIBS_PG_BIN_DIR=postgres_programs()
        )
        if self.token:
            environment["PGDIBS_TOKEN"] = self.token
        if self.server_url:
            environment["PGDIBS_SERVER_URL"] = self.server_url
        self._starts += 1
        self.process = DaemonProcess([self.program, "serve"], environment, self.url, self.data / f"daemon-{self._starts}.log")
        self.process.wait_until_ready()
        return self.process

    def remove(self) -> None:
        """Stop the daemon with its Postgres, and delete its data."""
        self.process.stop()
        shutil.rmtree(self.data)


class Project:
    """A directory with tests that lease from the daemon, and ways to run them."""

    def __init__(self, pytester: pytest.Pytester, daemon: Daemon, pool: str) -> None:
        self.pytester = pytester
        self.daemon = daemon
        self.client = Client(daemon.url)
        self.pool = pool
        self.environment: dict[str, str] = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PGDIBS_URL": daemon.url}
        self.settings: dict[str, str] = {
            "pgdibs_pool": pool,
            "pgdibs_env": "DATABASE_URL",
            "pgdibs_fingerprint": "schema.sql",
            "pgdibs_build": BUILD,
        }
        self.file("schema.sql", SCHEMA)

    def file(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def text(self, name: str) -> str:
        """Read a file of the project; empty if it does not exist."""
        path = self.pytester.path / name
        return path.read_text() if path.exists() else ""

    def start(self, *arguments: str, plugins: Optional[list[str]] = None, within: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Write its pytest.ini and start its pytest, in a process group of its own."""
        lines = [f"{name} = {value}" for name, value in self.settings.items()]
        self.file("pytest.ini", "\n".join(["[pytest]", *lines, ""]))
        return self._start(*arguments, plugins=plugins, within=within)

    def _start(self, *arguments: str, plugins: Optional[list[str]] = None, within: Sequence[str] = ()) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PGDIBS_", "PYTEST_", "PG"))}
        environment.update(self.environment)
        command = [
            *within,
            sys.executable,
            "-m",
            "pytest",
            *(PLUGINS if plugins is None else plugins),
            "-p",
            "no:cacheprovider",
            *arguments,
        ]
        return subprocess.Popen(
            command,
            cwd=self.pytester.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str], timeout_seconds: float = 180.0) -> Ran:
        """Wait for a started pytest; if it hangs, end it and fail the test."""
        try:
            output, _nothing = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _nothing = process.communicate()
            raise AssertionError(f"pytest was still running after {timeout_seconds:.0f} s:\n{output}") from None
        print(output)
        return Ran(process.returncode, output)

    def run(self, *arguments: str, plugins: Optional[list[str]] = None, within: Sequence[str] = ()) -> Ran:
        """Run its pytest; `within` is a command that runs the one behind it."""
        return self.finish(self.start(*arguments, plugins=plugins, within=within))

    def run_as_written(self, *arguments: str) -> Ran:
        """Run its pytest with the ini file that the test has written."""
        return self.finish(self._start(*arguments))

    def leases(self) -> list[dict[str, Any]]:
        """The live leases of its pool."""
        return self.client.leases(pool=self.pool)

    def counts(self) -> dict[str, int]:
        """The databases of its pool, by state."""
        counts: dict[str, int] = self.client.call("GET", f"/v1/pools/{self.pool}")["counts"]
        return counts

    def assert_no_leases(self, kept: int = 0) -> None:
        """Assert that soon there is no lease, and there are only ready, spare and kept databases.

        The end of a process does not wait until the daemon has released its leases; their time to live is longer than this wait.
        """
        eventually(lambda: self.leases() == [], 20)

        def is_idle() -> bool:
            counts = self.counts()
            return (
                counts["leased"] == counts["retiring"] == counts["creating"] == counts["blocked"] == 0 and counts["kept"] == kept
            )

        eventually(is_idle)


class Ran:
    """The result of a pytest run."""

    def __init__(self, status: int, output: str) -> None:
        self.status = status
        self.output = output

    def counted(self, what: str) -> int:
        """The number of tests that `passed`, `failed`, … in pytest's last line."""
        found = re.findall(rf"(\d+) {what}", self.output)
        return int(found[-1]) if found else 0

    def assert_passed(self, tests: int) -> None:
        """Assert that exactly so many tests passed, and the exit status is 0."""
        assert (self.status, self.counted("passed")) == (0, tests), self.output

    @property
    def errors(self) -> list[str]:
        """The lines that start with `ERROR: `."""
        return [line for line in self.output.splitlines() if line.startswith("ERROR: ")]
