"""Runs the shop's tests the ways that CI does, against one running daemon, and looks at what they leave behind.

    python run_suites.py                 # the daemon at PGDIBS_URL, the interpreter that runs this file
    python run_suites.py --python .venv/bin/python --only shards

The suites: `pytest -n 4`; two such runs at once; two pytest-split shards of `-n 2` each, at once. After each suite the
daemon must come to hold no lease of the pool, and no database of it that is neither ready nor spare.
Exit code 0 when all of it was so.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pgdibs_lease import Daemon, DaemonSilent

ROOT = Path(__file__).parent
SUITES: dict[str, list[list[str]]] = {
    "one": [["-n", "4"]],
    "two at once": [["-n", "4"], ["-n", "4"]],
    "shards": [["-n", "2", "--splits", "2", "--group", group] for group in ("1", "2")],
}
CLEAN_UP_SECONDS = 60.0
SUITE_SECONDS = 900.0


@dataclass(frozen=True)
class Run:
    """How one pytest ended."""

    arguments: list[str]
    exit_code: int
    output: str

    @property
    def passed(self) -> int:
        """How many tests passed, by pytest's last line."""
        found = re.findall(r"(\d+) passed", self.output)
        return int(found[-1]) if found else 0

    @property
    def is_clean(self) -> bool:
        """Whether it passed, with tests in it and without a word about a lease that went wrong."""
        return self.exit_code == 0 and self.passed > 0 and "pgdibs: " not in self.output


def run_at_once(python: str, argument_lists: list[list[str]]) -> list[Run]:
    """Start them all, wait for them all."""
    running = [
        subprocess.Popen(
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for arguments in argument_lists
    ]
    deadline = time.monotonic() + SUITE_SECONDS
    runs = []
    for process, arguments in zip(running, argument_lists, strict=True):
        try:
            output, _nothing = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.terminate()
            output, _nothing = process.communicate()
            output += f"\nended by run_suites.py after {SUITE_SECONDS:.0f} s"
        runs.append(Run(arguments, process.returncode, output))
    return runs


def left_behind(daemon: Daemon, pool: str) -> list[str]:
    """Live leases of the pool, and databases of it that are neither ready nor spare."""
    leases = answer_of(daemon, f"/v1/leases?pool={pool}")["leases"]
    databases = answer_of(daemon, "/v1/databases")["databases"]
    return [f"lease of {lease['holder']} on {lease['database']}" for lease in leases] + [
        f"database {database['database']} is {database['state']}"
        for database in databases
        if database["database"].startswith(f"{pool}_") and database["state"] not in ("ready", "spare")
    ]


def answer_of(daemon: Daemon, path: str) -> Any:
    """The JSON of a GET that must be answered with 200."""
    status, answer, _retry_after = daemon.ask("GET", path)
    if status != 200:
        raise DaemonSilent(f"GET {path} was answered with {status}: {answer}")
    return answer


def wait_until_clean(daemon: Daemon, pool: str) -> list[str]:
    """What is still left behind at the deadline; nothing, as a rule, after a moment."""
    deadline = time.monotonic() + CLEAN_UP_SECONDS
    while True:
        left = left_behind(daemon, pool)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)  # polling: dropping used databases takes the daemon a moment


def main() -> int:
    """Run the suites, print a line for each and the output of what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="an interpreter with requirements.txt installed")
    parser.add_argument(
        "--only", action="append", choices=list(SUITES), help="one suite instead of all; may be repeated"
    )
    arguments = parser.parse_args()
    python = str(Path(arguments.python).absolute()) if os.sep in arguments.python else arguments.python
    daemon = Daemon()
    pool = os.environ.get("SHOP_POOL") or "shop_test"
    has_failed = False
    for name in arguments.only or SUITES:
        started = time.monotonic()
        runs = run_at_once(python, SUITES[name])
        took = time.monotonic() - started
        try:
            left = wait_until_clean(daemon, pool)
        except DaemonSilent as error:
            left = [str(error)]
        is_good = all(run.is_clean for run in runs) and not left
        has_failed = has_failed or not is_good
        passed = " + ".join(str(run.passed) for run in runs)
        print(
            f"{'ok  ' if is_good else 'FAIL'} {name}: {passed} passed in {took:.1f} s, left behind: {len(left)}",
            flush=True,
        )
        for thing in left:
            print(f"     {thing}")
        for run in runs:
            if not run.is_clean:
                print(f"     pytest {' '.join(run.arguments)} ended with {run.exit_code}:\n{run.output}", flush=True)
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
