"""Whole test runs of the examples, in turns, on the same Postgres: Django with pytest-django alone and on pgdibs, SQLAlchemy
with `create_all` in each worker and on pgdibs.

whole_runs.py --server-url postgresql://postgres:…@127.0.0.1:5432/postgres [--workers N] [--rounds N]
Drops and creates databases library_test_gw… and shop_create_all_… on that Postgres, and starts $PGDIBS_BIN (or `pgdibs`) on it;
`pgdibs purge` removes what pgdibs has created.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPOSITORY = Path(__file__).resolve().parents[3]
HERE = str(Path(__file__).parent)
RUN_SECONDS = 900.0


@dataclass(frozen=True)
class Way:
    """One way to run an example's tests."""

    name: str
    directory: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def pairs(server: str, url: str) -> dict[str, tuple[Way, Way]]:
    """For each example, first the way without pgdibs, then the one with it."""
    parts = urlsplit(server)
    libpq = {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
    }
    pgdibs = {"PGDIBS_URL": url}
    # The tests of leases; `create_all.ini` leaves them out as well.
    beyond = ("--ignore", "tests/test_lease.py", "--ignore", "tests/test_ddl.py")
    return {
        "django-library": (
            Way("pytest-django alone", "django-library", ("-c", "stock.ini"), libpq),
            Way("pgdibs", "django-library", (), pgdibs),
        ),
        "fastapi-shop": (
            Way("create_all per worker", "fastapi-shop", ("-c", "create_all.ini"), libpq),
            Way("pgdibs", "fastapi-shop", beyond, pgdibs),
        ),
    }


def seconds_of(way: Way, workers: int) -> tuple[float, int]:
    """The wall time of one run, and how many tests passed; a run that fails ends the benchmark."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PGDIBS_", "PG"))}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers), *way.arguments],
        cwd=REPOSITORY / "examples" / way.directory,
        env={**environment, **way.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
    )
    took = time.monotonic() - started
    if done.returncode != 0:
        raise SystemExit(f"{way.directory}, {way.name}: pytest ended with {done.returncode}\n{done.stdout[-3000:]}")
    return took, int(re.findall(r"(\d+) passed", done.stdout)[-1])


def compare(example: str, pair: tuple[Way, Way], workers: int, rounds: int) -> None:
    """Runs both in turns, so that a busy machine slows both. The first run of pgdibs builds the template and counts apart."""
    without, with_it = pair
    built, passed = seconds_of(with_it, workers)
    times: dict[str, list[float]] = {without.name: [], with_it.name: []}
    for _ in range(rounds):
        for way in pair:
            took, count = seconds_of(way, workers)
            if count != passed:
                raise SystemExit(f"{example}, {way.name}: {count} tests passed, and {passed} in the first run")
            times[way.name].append(took)
    stock, leased = statistics.median(times[without.name]), statistics.median(times[with_it.name])
    print(f"{example}: {passed} tests, -n {workers}, median of {rounds}")
    print(f"  {without.name:<24}{stock:8.1f} s")
    print(f"  {'pgdibs, building':<24}{built:8.1f} s   {built / stock:5.2f} of it (one run)")
    print(f"  {'pgdibs, template there':<24}{leased:8.1f} s   {leased / stock:5.2f} of it", flush=True)


def main() -> int:
    """Starts the daemon, compares, stops it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--server-url", required=True, help="a Postgres for the databases of the benchmark, with the login of a superuser"
    )
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=17434, help="where the daemon listens (default %(default)s)")
    arguments = parser.parse_args()
    program = os.environ.get("PGDIBS_BIN", "pgdibs")
    url = f"http://127.0.0.1:{arguments.port}"
    environment = {**os.environ, "PGDIBS_SERVER_URL": arguments.server_url, "PGDIBS_LISTEN": f"127.0.0.1:{arguments.port}"}
    daemon = subprocess.Popen([program, "serve", "--log", "error"], env=environment, cwd=HERE)
    try:
        wait_until_ready(url, daemon)
        for example, pair in pairs(arguments.server_url, url).items():
            compare(example, pair, arguments.workers, arguments.rounds)
    finally:
        daemon.terminate()
        daemon.wait(30)
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
