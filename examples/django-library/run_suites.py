"""Runs the library's tests the ways that CI does, with kills in the middle, and looks at what they leave behind.

    pgdibs serve &  python run_suites.py           # the daemon at PGDIBS_URL, the interpreter that runs this file
    python run_suites.py --only "two at once"

The suites: `serial`; `-n 4`; two of these at once; `-n 2` with a worker killed by SIGKILL; `-n 2` with the daemon killed and
started again (`--own-daemon` starts one of its own for this); `-n 2` ended by Ctrl-C. After each one the daemon must come to
hold no lease of the pools, and no database of them that is neither ready nor spare. Exit code 0 when all of it was so.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgdibs import Client
from pgdibs.errors import PgdibsError

ROOT = Path(__file__).parent
POOLS = ("library_test", "library_test_audit")
TESTS = 215
SHORT_TESTS = 52
SUITE_SECONDS = 600.0
LOOK_EVERY_SECONDS = 0.05


class Daemon:
    """A daemon of our own, which can be killed and started again on the same data and port."""

    def __init__(self, program: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.data = Path(tempfile.mkdtemp(prefix="library-daemon-"))
        self.data.chmod(0o711)
        self._program = program
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        listen = self.url.removeprefix("http://")
        environment = {**os.environ, "PGDIBS_LISTEN": listen, "PGDIBS_DATA_DIR": str(self.data / "data")}
        with (self.data / "log").open("ab") as log:
            process = subprocess.Popen([self._program, "serve"], env=environment, stdout=log, stderr=log)
        wait_for(self._is_ready, "the daemon is ready", 120)
        return process

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def kill_and_start(self) -> None:
        """SIGKILL, and at once the next one."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def stop(self) -> None:
        """In order, with its Postgres."""
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self.data, ignore_errors=True)


@dataclass
class Run:
    """A pytest: running, then ended."""

    process: subprocess.Popen[str]
    output_file: Path
    exit_code: int | None = None

    @classmethod
    def start(cls, *arguments: str) -> Run:
        """In a process group of its own, as a terminal would have it."""
        file = Path(tempfile.mkstemp(prefix="library-suite-")[1])
        with file.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *arguments],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        return cls(process, file)

    @property
    def output(self) -> str:
        """What it has said until now."""
        return self.output_file.read_text(errors="replace")

    def counted(self, what: str) -> int:
        """How many tests `passed` or `failed`, by its last line."""
        found = re.findall(rf"(\d+) {what}", self.output[-2000:])
        return int(found[-1]) if found else 0

    def wait(self) -> Run:
        """Until it has ended."""
        try:
            self.exit_code = self.process.wait(SUITE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.exit_code = self.process.wait()
        return self

    def wait_for_tests(self, number: int) -> None:
        """Until so many tests have passed, which is somewhere in the middle."""
        wait_for(lambda: self.output.count(" PASSED ") >= number, f"{number} tests have passed", 120)


def wait_for(look: Callable[[], object], what: str, seconds: float) -> None:
    """Looks until it is so; a `RuntimeError` at the deadline."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:.0f} s: {what}")
        time.sleep(LOOK_EVERY_SECONDS)  # the pause between two looks at a level


def all_passed(*runs: Run) -> str:
    """Says what is wrong, or nothing."""
    wrong = [f"exit code {run.exit_code}, {run.counted('passed')} passed" for run in runs if not is_whole(run)]
    return "; ".join(wrong)


def is_whole(run: Run) -> bool:
    """All tests passed, and none twice."""
    return run.exit_code == 0 and run.counted("passed") == TESTS


def serial(_client: Client, _daemon: Daemon | None) -> tuple[list[Run], str]:
    """One process."""
    run = Run.start().wait()
    return [run], all_passed(run)


def four(_client: Client, _daemon: Daemon | None) -> tuple[list[Run], str]:
    """Four workers."""
    run = Run.start("-n", "4").wait()
    return [run], all_passed(run)


def short(_client: Client, _daemon: Daemon | None) -> tuple[list[Run], str]:
    """A part of the tests, with four workers."""
    run = Run.start("-n", "4", *(f"tests/test_{name}.py" for name in ("desk", "races", "unittest_style"))).wait()
    passed = run.counted("passed")
    whole = run.exit_code == 0 and passed == SHORT_TESTS
    return [run], "" if whole else f"exit code {run.exit_code}, {passed} passed instead of {SHORT_TESTS}"


def two_at_once(_client: Client, _daemon: Daemon | None) -> tuple[list[Run], str]:
    """Two runs that share the pools."""
    runs = [Run.start("-n", "4") for _ in range(2)]
    for run in runs:
        run.wait()
    return runs, all_passed(*runs)


def worker_killed(client: Client, _daemon: Daemon | None) -> tuple[list[Run], str]:
    """One of two workers gets SIGKILL; one test fails with it, a new worker runs the others."""
    run = Run.start("-n", "2")
    run.wait_for_tests(20)
    holders = [lease["holder"] for lease in client.leases(pool=POOLS[0])]
    pids = {int(pid) for pid in re.findall(r"\bpid (\d+)", " ".join(holders))} or children_of(run.process.pid)
    os.kill(min(pids), signal.SIGKILL)
    run.wait()
    passed, failed = run.counted("passed"), run.counted("failed")
    is_right = (run.exit_code, passed + failed) == (1, TESTS) and failed == 1 and "crashed while running" in run.output
    return [run], "" if is_right else f"exit code {run.exit_code}, {passed} passed, {failed} failed"


def children_of(pid: int) -> set[int]:
    """The processes that this one has started."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], check=True, capture_output=True, text=True)
    return {int(child) for child in listed.stdout.split()}


def daemon_killed(_client: Client, daemon: Daemon | None) -> tuple[list[Run], str]:
    """Nobody notices."""
    if daemon is None:
        return [], "this needs --own-daemon: a daemon that may be killed"
    run = Run.start("-n", "2")
    run.wait_for_tests(20)
    daemon.kill_and_start()
    run.wait()
    return [run], all_passed(run)


def ctrl_c(_client: Client, _daemon: Daemon | None) -> tuple[list[Run], str]:
    """The whole group gets SIGINT, as from a terminal."""
    run = Run.start("-n", "2")
    run.wait_for_tests(20)
    os.killpg(run.process.pid, signal.SIGINT)
    run.wait()
    return [run], "" if run.exit_code == 2 else f"exit code {run.exit_code}; an interrupted pytest ends with 2"


SUITES: dict[str, Callable[[Client, Daemon | None], tuple[list[Run], str]]] = {
    "serial": serial,
    "-n 4": four,
    "short": short,
    "two at once": two_at_once,
    "worker killed": worker_killed,
    "daemon killed": daemon_killed,
    "Ctrl-C": ctrl_c,
}


def left_behind(client: Client) -> list[str]:
    """Live leases of the pools, and databases of them that are neither ready nor spare."""
    left = [f"a lease on {lease['database']}" for pool in POOLS for lease in client.leases(pool=pool)]
    databases: list[dict[str, Any]] = client.call("GET", "/v1/databases")["databases"]
    return left + [
        f"database {database['database']} is {database['state']}"
        for database in databases
        if database["database"].startswith(f"{POOLS[0]}_") and database["state"] not in ("ready", "spare")
    ]


def main() -> int:
    """Runs the suites, prints a line for each and the output of what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(SUITES), help="one suite instead of all; may be repeated")
    parser.add_argument("--own-daemon", action="store_true", help="start $PGDIBS_BIN (or pgdibs) instead of using PGDIBS_URL")
    parser.add_argument("--port", type=int, default=17433, help="where it listens (default %(default)s)")
    arguments = parser.parse_args()
    daemon = Daemon(os.environ.get("PGDIBS_BIN", "pgdibs"), arguments.port) if arguments.own_daemon else None
    if daemon is not None:
        os.environ["PGDIBS_URL"] = daemon.url
    client = Client()
    has_failed = False
    try:
        for name in arguments.only or SUITES:
            started = time.monotonic()
            runs, wrong = SUITES[name](client, daemon)
            took = time.monotonic() - started
            try:
                wait_for(lambda: not left_behind(client), "nothing is left behind", 60)
                left: list[str] = []
            except (RuntimeError, PgdibsError) as error:
                left = [str(error), *left_behind(client)]
            has_failed = has_failed or bool(wrong or left)
            passed = " + ".join(str(run.counted("passed")) for run in runs)
            print(
                f"{'FAIL' if wrong or left else 'ok  '} {name}: {passed} passed in {took:.1f} s, left behind: {len(left)}",
                flush=True,
            )
            for line in [wrong, *left]:
                print(f"     {line}" if line else "", end="\n" if line else "")
            for run in runs:
                if wrong:
                    print(run.output[-6000:], flush=True)
                run.output_file.unlink()
    finally:
        if daemon is not None:
            daemon.stop()
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
