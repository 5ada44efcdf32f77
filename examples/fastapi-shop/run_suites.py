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
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pgdibs import Client, PgdibsError

from killed_run import POOL, run_killed_and_again
from running import OwnDaemon, Run, Running, own_daemon

CLEAN_UP_SECONDS = 60.0
SUITE_SECONDS = 900.0


@dataclass(frozen=True)
class Suite:
    """Runs at the same time, and what happens to them in the middle."""

    runs: list[list[str]] = field(default_factory=list)
    disturb: Callable[[Client, Running], None] | None = None
    exit_code: int = 0
    failed: int = 0
    has_own_daemon: bool = False
    procedure: Callable[[str, Client], tuple[list[Run], list[str]]] | None = None
    """In place of `runs`, for what is more than that: the runs that have to be good, and what was wrong otherwise."""


def main() -> int:
    """Run the suites, print a line for each and the output of what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", default=sys.executable, help="an interpreter with requirements.txt and pgdibs installed"
    )
    parser.add_argument(
        "--only", action="append", choices=list(SUITES), help="one suite instead of all; may be repeated"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run the suites so many times")
    arguments = parser.parse_args()
    python = str(Path(arguments.python).absolute()) if os.sep in arguments.python else arguments.python
    has_failed = False
    for name in (arguments.only or list(SUITES)) * arguments.repeat:
        suite = SUITES[name]
        started = time.monotonic()
        with own_daemon() if suite.has_own_daemon else contextlib.nullcontext():
            client = Client()
            try:
                if suite.procedure is not None:
                    runs, left = suite.procedure(python, client)
                else:
                    runs, left = run_at_once(python, suite, client), []
                left += wait_until_clean(client)
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
    running = [Running(python, arguments) for arguments in suite.runs]
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
    # A tenth of it: what touches the lease, the schema and processes beside the tests.
    "short": Suite([["-n", "4", *(f"tests/test_{name}.py" for name in ("lease", "processes", "schema", "worker"))]]),
    "two at once": Suite([["-n", "4"], ["-n", "4"]]),
    "shards": Suite([["-n", "2", "--splits", "2", "--group", group] for group in ("1", "2")]),
    "worker killed": Suite([["-n", "2"]], kill_a_worker, exit_code=1, failed=1),
    "daemon killed": Suite([["-n", "2"]], restart_the_daemon, has_own_daemon=True),
    "Ctrl-C": Suite([["-n", "2"]], interrupt, exit_code=2),
    "killed with a process at work": Suite(procedure=run_killed_and_again),
}


if __name__ == "__main__":
    sys.exit(main())
