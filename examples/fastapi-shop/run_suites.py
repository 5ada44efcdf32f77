"""Runs the shop's tests the ways that people do, against one running daemon, and looks at what they leave behind.

    python run_suites.py                 # the daemon at PGDIBS_URL, the interpreter that runs this file
    python run_suites.py --python .venv/bin/python --only "two at once"

The suites stand in SUITES. After each the daemon must come to hold no lease of the pool, and no database of it that is
neither ready nor spare. "daemon killed" starts a daemon of its own with the program `pgdibs` (or PGDIBS_BIN).
With SHOP_TEMPLATE=daemon the tests only name the pool, and the daemon builds its template from pgdibs.toml.
Exit code 0 when all of it was so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pgdibs import Client, PgdibsError, Unreachable

ROOT = Path(__file__).parent
POOL = os.environ.get("PGDIBS_POOL") or "shop_test"
CLEAN_UP_SECONDS = 60.0
SUITE_SECONDS = 900.0
READY_SECONDS = 120.0


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
        return as_expected and self.counted("passed") > 0 and "pgdibs: " not in self.output


@dataclass(frozen=True)
class Suite:
    """Runs at the same time, and what happens to them in the middle."""

    runs: list[list[str]]
    disturb: Callable[[Client, Running], None] | None = None
    exit_code: int = 0
    failed: int = 0
    has_own_daemon: bool = False


def main() -> int:
    """Run the suites, print a line for each and the output of what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", default=sys.executable, help="an interpreter with requirements.txt and pgdibs installed"
    )
    parser.add_argument(
        "--only", action="append", choices=list(SUITES), help="one suite instead of all; may be repeated"
    )
    arguments = parser.parse_args()
    python = str(Path(arguments.python).absolute()) if os.sep in arguments.python else arguments.python
    has_failed = False
    for name in arguments.only or SUITES:
        suite = SUITES[name]
        started = time.monotonic()
        with own_daemon() if suite.has_own_daemon else contextlib.nullcontext():
            client = Client()
            try:
                runs = run_at_once(python, suite, client)
                left = wait_until_clean(client)
            except PgdibsError as error:
                runs, left = [], [str(error)]
        took = time.monotonic() - started
        is_good = bool(runs) and all(run.is_good for run in runs) and not left
        has_failed = has_failed or not is_good
        passed = " + ".join(str(run.counted("passed")) for run in runs)
        verdict = "ok  " if is_good else "FAIL"
        print(f"{verdict} {name}: {passed or 0} passed in {took:.1f} s, left behind: {len(left)}", flush=True)
        for thing in left:
            print(f"     {thing}")
        for run in runs:
            if not run.is_good:
                print(f"     pytest {' '.join(run.arguments)} ended with {run.ended_with}:\n{run.output}", flush=True)
    return 1 if has_failed else 0


def run_at_once(python: str, suite: Suite, client: Client) -> list[Run]:
    """Start them all, disturb them, wait for them all."""
    source = ["-o", "pgdibs_fingerprint=", "-o", "pgdibs_build="] if os.environ.get("SHOP_TEMPLATE") == "daemon" else []
    running = [Running(python, [*source, *arguments]) for arguments in suite.runs]
    deadline = time.monotonic() + SUITE_SECONDS
    if suite.disturb is not None:
        suite.disturb(client, running[0])
    runs = []
    for started, arguments in zip(running, suite.runs, strict=True):
        note = ""
        try:
            started.process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(started.process.pid, signal.SIGKILL)
            note = f"\nended by run_suites.py after {SUITE_SECONDS:.0f} s"
        runs.append(Run(arguments, suite.exit_code, suite.failed, started.output() + note, started.process.wait()))
        started.forget()
    return runs


class Running:
    """A pytest in a process group of its own, whose output can be read while it runs."""

    def __init__(self, python: str, arguments: list[str]) -> None:
        descriptor, name = tempfile.mkstemp(prefix="shop-output-")
        self._file = Path(name)
        with os.fdopen(descriptor, "w") as file:
            self.process = subprocess.Popen(
                [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
                cwd=ROOT,
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


def in_the_middle(running: Running) -> None:
    """Returns when pytest has written its first full line of dots, which is after 72 tests."""
    deadline = time.monotonic() + SUITE_SECONDS
    while "%]" not in running.output() and time.monotonic() < deadline and running.process.poll() is None:
        time.sleep(0.05)  # the pause between two looks


def kill_a_worker(client: Client, running: Running) -> None:
    """SIGKILL, as the kernel does when memory runs out."""
    in_the_middle(running)
    # Who holds a lease says so, as `host/pid/worker`.
    os.kill(int(client.leases(pool=POOL)[0]["holder"].split("/")[1]), signal.SIGKILL)


def interrupt(_client: Client, running: Running) -> None:
    """Ctrl-C: the terminal sends SIGINT to the whole process group."""
    in_the_middle(running)
    os.killpg(running.process.pid, signal.SIGINT)


def restart_the_daemon(_client: Client, running: Running) -> None:
    """SIGKILL, and a new one on the same data."""
    in_the_middle(running)
    OwnDaemon.current.kill()
    OwnDaemon.current.start()


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
            place = ROOT if os.environ.get("SHOP_TEMPLATE") == "daemon" else self._data
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


def left_behind(client: Client) -> list[str]:
    """Live leases of the pool, and databases of it that are neither ready nor spare."""
    databases = client.call("GET", "/v1/databases")["databases"]
    return [f"lease of {lease['holder']} on {lease['database']}" for lease in client.leases(pool=POOL)] + [
        f"database {database['database']} is {database['state']}"
        for database in databases
        if database["database"].startswith(f"{POOL}_") and database["state"] not in ("ready", "spare")
    ]


def wait_until_clean(client: Client) -> list[str]:
    """What is still left behind at the deadline; nothing, as a rule, after a moment."""
    deadline = time.monotonic() + CLEAN_UP_SECONDS
    while True:
        left = left_behind(client)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)  # polling: dropping used databases takes the daemon a moment


SUITES = {
    "serial": Suite([[]]),
    "one": Suite([["-n", "4"]]),
    "two at once": Suite([["-n", "4"], ["-n", "4"]]),
    "shards": Suite([["-n", "2", "--splits", "2", "--group", group] for group in ("1", "2")]),
    "worker killed": Suite([["-n", "2"]], kill_a_worker, exit_code=1, failed=1),
    "daemon killed": Suite([["-n", "2"]], restart_the_daemon, has_own_daemon=True),
    "Ctrl-C": Suite([["-n", "2"]], interrupt, exit_code=2),
}


if __name__ == "__main__":
    sys.exit(main())
