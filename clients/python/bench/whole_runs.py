"""Whole test runs of the examples, with pgdibs and without, in turns on one Postgres; prints a markdown table.

whole_runs.py [--only SUITE] [--server fast|durable] [--workers N] [--rounds N] [--output FILE.json]
Each of the first three may be repeated; without them everything is run, which takes about half an hour. With --output the cells
that are measured replace those of the file, so it can be done in pieces; --table FILE.json prints the table and measures nothing.
A new Postgres and a new daemon ($PGDIBS_BIN, or `pgdibs`) serve each combination. `--server-url` names a Postgres to use instead:
databases library_test_gw… and shop_create_all_… are dropped and created there, and `pgdibs purge` removes those of pgdibs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from own_postgres import SETTINGS, free_port, own_postgres

REPOSITORY = Path(__file__).resolve().parents[3]
HERE = str(Path(__file__).parent)
RUN_SECONDS = 900.0
# The tests of leases; `create_all.ini` leaves them out as well.
BEYOND = ("--ignore", "tests/test_lease.py", "--ignore", "tests/test_ddl.py")


@dataclass(frozen=True)
class Suite:
    """An example's tests, and the arguments of pytest for both ways to run them."""

    title: str
    directory: str
    plain: tuple[str, ...]
    plain_title: str
    pgdibs: tuple[str, ...]


SUITES = {
    "library": Suite(
        "Django library, its own transactions and flushes",
        "django-library",
        ("-c", "stock.ini"),
        "pytest-django alone",
        (),
    ),
    "shop": Suite(
        "SQLAlchemy shop, tables emptied after each test",
        "fastapi-shop",
        ("-c", "create_all.ini"),
        "`create_all` in each worker",
        BEYOND,
    ),
    "shop-database-per-test": Suite(
        "the shop's tests of selling, a database for each test",
        "fastapi-shop",
        ("-c", "create_all.ini", "-p", "database_per_test", "tests/test_selling.py"),
        "`DROP` and `CREATE DATABASE … TEMPLATE` by hand",
        (*BEYOND, "-p", "database_per_test", "tests/test_selling.py"),
    ),
}


def seconds_of(directory: str, arguments: tuple[str, ...], variables: Mapping[str, str], workers: int) -> tuple[float, int]:
    """The wall time of one run, and how many tests passed; a run that fails ends the benchmark."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PGDIBS_", "PG"))}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers), *arguments],
        cwd=REPOSITORY / "examples" / directory,
        env={**environment, "PYTHONPATH": HERE, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
    )
    took = time.monotonic() - started
    if done.returncode != 0:
        raise SystemExit(f"{directory}, {' '.join(arguments)}: pytest ended with {done.returncode}\n{done.stdout[-3000:]}")
    return took, int(re.findall(r"(\d+) passed", done.stdout)[-1])


def measure(suite: Suite, server_url: str, daemon_url: str, workers: int, rounds: int) -> dict[str, Any]:
    """Runs both ways in turns, so that a busy machine slows both. The first run of pgdibs builds the template: it is apart."""
    parts = urlsplit(server_url)
    libpq = {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
    }
    ways = {"plain": (suite.plain, libpq), "pgdibs": (suite.pgdibs, {"PGDIBS_URL": daemon_url})}
    building, passed = seconds_of(suite.directory, *ways["pgdibs"], workers)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        # Each way is the first one in every other round.
        for name in sorted(ways, reverse=bool(number % 2)):
            took, count = seconds_of(suite.directory, *ways[name], workers)
            if count != passed:
                raise SystemExit(f"{suite.title}, {name}: {count} tests passed, and {passed} in the first run")
            times[name].append(took)
    return {"tests": passed, "rounds": rounds, "building_seconds": building, **{f"{name}_seconds": times[name] for name in ways}}


def table(cells: Mapping[str, dict[str, Any]]) -> str:
    """The cells as markdown; a ratio below 1 means that pgdibs takes less time."""
    lines = [
        "| suite | without pgdibs | server | `-n` | without | pgdibs | ratio | pgdibs, first run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for suite_name, suite in SUITES.items():
        for server in (*SETTINGS, "given"):
            for key, cell in sorted(cells.items()):
                if key.rpartition("/")[0] != f"{suite_name}/{server}":
                    continue
                plain, leased = statistics.median(cell["plain_seconds"]), statistics.median(cell["pgdibs_seconds"])
                lines.append(
                    f"| {suite.title} ({cell['tests']} tests) | {suite.plain_title} | {server} | {key.rpartition('/')[2]} | "
                    f"{plain:.1f} s | {leased:.1f} s | {leased / plain:.2f} | {cell['building_seconds']:.1f} s |"
                )
    return "\n".join(lines)


@contextlib.contextmanager
def daemon_on(server_url: str) -> Iterator[str]:
    """A daemon on that Postgres; its URL."""
    program, listen = os.environ.get("PGDIBS_BIN", "pgdibs"), f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "PGDIBS_SERVER_URL": server_url, "PGDIBS_LISTEN": listen}
    # Not in the working directory, which may have a pgdibs.toml.
    daemon = subprocess.Popen([program, "serve", "--log", "error"], env=environment, cwd=HERE)
    try:
        wait_until_ready(f"http://{listen}", daemon)
        yield f"http://{listen}"
    finally:
        daemon.terminate()
        daemon.wait(30)


def wait_until_ready(url: str, daemon: subprocess.Popen[bytes]) -> None:
    """Until `/readyz` answers 200, at most a minute."""
    deadline = time.monotonic() + 60
    while daemon.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.1)  # the pause between two polls
    raise SystemExit(f"the daemon was not ready within a minute at {url}")


def main() -> int:
    """Measures the chosen cells and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(SUITES))
    parser.add_argument("--server", action="append", choices=list(SETTINGS))
    parser.add_argument("--workers", action="append", type=int, help="pytest -n (default 2 and 4)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server-url", help="a Postgres to use, with the login of a superuser, in place of new ones")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    parser.add_argument("--table", type=Path, metavar="FILE.json")
    arguments = parser.parse_args()
    output: Path | None = arguments.table or arguments.output
    cells: dict[str, dict[str, Any]] = json.loads(output.read_text()) if output is not None and output.exists() else {}
    if arguments.table is None:
        for server in ["given"] if arguments.server_url else arguments.server or list(SETTINGS):
            for name in arguments.only or list(SUITES):
                for workers in arguments.workers or [2, 4]:
                    with contextlib.ExitStack() as stack:
                        server_url = arguments.server_url or stack.enter_context(own_postgres(server))
                        daemon_url = stack.enter_context(daemon_on(server_url))
                        cell = measure(SUITES[name], server_url, daemon_url, workers, arguments.rounds)
                    cells[f"{name}/{server}/{workers}"] = cell
                    print(f"{name}/{server}/{workers}: {json.dumps(cell)}", file=sys.stderr, flush=True)
                    if output is not None:
                        output.write_text(json.dumps(cells, indent=1) + "\n")
    print(table(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
