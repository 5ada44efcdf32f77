"""One test from an editor (`pytest file::test`): what pgdibs adds to the same test on a database that is already there.

one_test.py [--rounds N]: needs a daemon at PGDIBS_URL; `scripts/with-daemon.py .venv/bin/python` before it gives it one.
Five ways take turns, on one server; medians of the wall time of pytest. The goals: at most 0.03 s more than the same test on a
database that is there, and no more than `create_all` of 8 tables. Both databases are leases of this program.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from pgdibs import Client

GOAL_SECONDS = 0.03
POOL = "bench_one_test"
TABLES = 8
MODELS = f"""
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Numeric, String, Table
metadata = MetaData()
for number in range({TABLES}):
    parent = [Column("parent", ForeignKey(f"t{{number - 1}}.id"), index=True)] if number else []
    Table(f"t{{number}}", metadata, Column("id", Integer, primary_key=True), Column("name", String(80), unique=True),
          Column("price", Numeric(10, 2)), *parent)
"""
TEST = """
import os
from models import metadata
from sqlalchemy import create_engine, text
def test_it():
    engine = create_engine(os.environ["DATABASE_URL"])
    with engine.connect() as connection:
        connection.execute(text("insert into t0 (name) values ('a')"))
        assert connection.scalar(text("select count(*) from t0")) == 1
    engine.dispose()
def test_without_database():
    pass
"""
CREATE_ALL = """
import os
import pytest
from models import metadata
from sqlalchemy import create_engine
@pytest.fixture(scope="session", autouse=True)
def tables():
    engine = create_engine(os.environ["DATABASE_URL"])
    metadata.create_all(engine)
    yield
    metadata.drop_all(engine)
    engine.dispose()
"""
PGDIBS = ("-p", "pgdibs.pytest_plugin", "-c", "with.ini")
BUILD = """
import os
from models import metadata
from sqlalchemy import create_engine
metadata.create_all(create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")))
"""
INI = f"""[pytest]
pgdibs_pool = {POOL}
pgdibs_env = DATABASE_URL=postgresql+psycopg://
pgdibs_fingerprint = models.py build.py
pgdibs_build = {sys.executable} build.py
"""


def seconds_of(directory: Path, arguments: tuple[str, ...], test: str, database_url: str) -> float:
    """The wall time of one pytest."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "DATABASE_URL": database_url}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, f"test_it.py::{test}"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    took = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="how often each way is run (default 20)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name, Client() as client:
        directory = Path(name)
        for file, text in {"models.py": MODELS, "test_it.py": TEST, "build.py": BUILD, "create_all.py": CREATE_ALL}.items():
            (directory / file).write_text(text)
        (directory / "with.ini").write_text(INI)
        (directory / "without.ini").write_text("[pytest]\n")
        client.put_pool(f"{POOL}_plain", warm=0, spares=0, max=2)
        client.ensure_template(f"{POOL}_plain", "empty", lambda url: None)
        with client.lease(f"{POOL}_plain") as there, client.lease(f"{POOL}_plain") as empty:
            driver = "postgresql+psycopg"
            subprocess.run([sys.executable, "build.py"], cwd=directory, env={**os.environ, "DATABASE_URL": there.url}, check=True)
            plain = ("-c", "without.ini")
            ways = {
                "no database, no plugin": (plain, "test_without_database", ""),
                "no database, pgdibs at rest": (("-p", "pgdibs.pytest_plugin", *plain), "test_without_database", ""),
                "a database that is there": (plain, "test_it", there.url_for(driver)),
                f"create_all of {TABLES} tables": (("-p", "create_all", *plain), "test_it", empty.url_for(driver)),
                "pgdibs": (PGDIBS, "test_it", there.url_for(driver)),
            }
            times: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(rounds + 1):
                for way, (arguments, test, url) in ways.items():
                    took = seconds_of(directory, arguments, test, url)
                    if number:  # the first round builds the template, and compiles
                        times[way].append(took)
            with psycopg.connect(there.url) as connection:
                assert connection.execute("select count(*) from t0").fetchone() == (0,), "a test has committed"
        for pool in (POOL, f"{POOL}_plain"):
            client.call("DELETE", f"/v1/pools/{pool}?force=true")
    print_result({way: statistics.median(found) for way, found in times.items()}, times)


def print_result(medians: dict[str, float], times: dict[str, list[float]]) -> None:
    """The medians, and what each adds to a test on a database that is there."""
    base, created, leased = medians["a database that is there"], medians[f"create_all of {TABLES} tables"], medians["pgdibs"]
    for way, found in times.items():
        print(
            f"{way:<28} {medians[way]:.3f} s (min {min(found):.3f}, {len(found)} runs), {medians[way] - base:+.3f} s, "
            f"x{medians[way] / base:.2f} of a database that is there"
        )
    met = {True: "met", False: "missed"}
    print(f"goal: pgdibs at most +{GOAL_SECONDS:.2f} s: {leased - base:+.3f} s, {met[leased - base <= GOAL_SECONDS]}")
    print(f"goal: pgdibs not slower than create_all: x{leased / created:.2f}, {met[leased <= created]}")


if __name__ == "__main__":
    main()
