"""What the connection guard costs: µs for each connect that it lets through (goal: at most 20), by driver, and at rest.

connection_guard.py [--rounds N]: needs a daemon at PGDIBS_URL; `scripts/with-daemon.py .venv/bin/python` before it gives it one.
Rounds with and without take turns on the same lease. "decided in" is the time inside the guard, summed over the layers of one
connect; the ratio of the connects' medians shows that it vanishes in what a connect takes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import psycopg
import psycopg2
import sqlalchemy
from django.conf import settings
from django.db import connection as django_connection
from sqlalchemy.pool import NullPool

from pgdibs import Client
from pgdibs.plugin.connection_guard.decisions import ConnectionGuard
from pgdibs.plugin.connection_guard.drivers import Drivers
from pgdibs.plugin.connection_guard.imports import AfterImport
from pgdibs.plugin.connection_guard.roles import Role

GOAL_US = 20.0
POOL = "bench_connection_guard"


class TimedGuard(ConnectionGuard):
    """Adds up the time that its decisions take."""

    seconds = 0.0

    def check_parameters(self, *args: Any) -> None:
        started = time.perf_counter()
        super().check_parameters(*args)
        self.seconds += time.perf_counter() - started

    def check_resolved(self, *args: Any) -> None:
        started = time.perf_counter()
        super().check_resolved(*args)
        self.seconds += time.perf_counter() - started


def ways(url: str, lease: Any) -> dict[str, Callable[[], None]]:
    """By name: opens one connection and closes it."""
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": lease.database,
                "HOST": lease.host,
                "PORT": str(lease.port),
                "USER": lease.user,
                "PASSWORD": lease.password,
            }
        }
    )
    engines = {
        driver: sqlalchemy.create_engine(url.replace("postgresql", f"postgresql+{driver}", 1), poolclass=NullPool)
        for driver in ("psycopg", "psycopg2")
    }
    loop = asyncio.new_event_loop()

    async def by_asyncpg() -> None:
        await (await asyncpg.connect(url)).close()

    def by_django() -> None:
        django_connection.connect()
        django_connection.close()

    return {
        "psycopg": lambda: psycopg.connect(url).close(),
        "psycopg2": lambda: psycopg2.connect(url).close(),
        "asyncpg": lambda: loop.run_until_complete(by_asyncpg()),
        "SQLAlchemy on psycopg": lambda: engines["psycopg"].connect().close(),
        "SQLAlchemy on psycopg2": lambda: engines["psycopg2"].connect().close(),
        "Django": by_django,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="how many connects of each kind (default 200)")
    rounds = parser.parse_args().rounds
    with Client() as client:
        client.put_pool(POOL, warm=1, spares=1, max=2)
        client.ensure_template(POOL, "empty", lambda url: None)
        with client.lease(POOL, fingerprint="empty") as lease:
            for name, connect in ways(lease.url, lease).items():
                print(measured(name, connect, rounds))
        client.call("DELETE", f"/v1/pools/{POOL}?force=true")
    finder, count = AfterImport({"psycopg": print}), 100_000
    started = time.perf_counter()
    for _ in range(count):
        finder.find_spec("another.module", None)
    print(f"at rest: {(time.perf_counter() - started) / count * 1e9:.0f} ns for each import of another module")


def measured(name: str, connect: Callable[[], None], rounds: int) -> str:
    """One line of the result."""
    config: Any = None
    guard = TimedGuard(config, "error", (), Role.TESTS, (), lambda *_refused: "")
    connect()
    with_guard, without, decided = [], [], []
    for number in range(2 * rounds):
        drivers = Drivers(guard)
        if number % 2:
            guard.is_active, guard.seconds = True, 0.0
            drivers.install()
        started = time.perf_counter()
        connect()
        took = time.perf_counter() - started
        drivers.remove()
        (with_guard if number % 2 else without).append(took)
        if number % 2:
            decided.append(guard.seconds)
    median = statistics.median
    cost = median(decided[1:]) * 1e6
    return (
        f"{name}: decided in {cost:.1f} us (goal: at most {GOAL_US:.0f}; the first time {decided[0] * 1e6:.0f} us); connect and "
        f"close {median(without) * 1e3:.2f} ms without, {median(with_guard) * 1e3:.2f} ms with, "
        f"x{median(with_guard) / median(without):.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
