"""Processes that the tests start, each with an engine of its own: all of them reach the lease, by what they inherit."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from shop.worker import main
from tests.clean_database import LeasedDatabase
from tests.shop_world import ShopWorld
from tests.test_worker import wait_until

ROOT = Path(__file__).parents[1]
IsRunning = Callable[[], bool]
WITH_PSYCOPG = """
import sqlalchemy
engine = sqlalchemy.create_engine(sqlalchemy.make_url(os.environ["TEST_DATABASE_URL"]))
with engine.begin() as connection:
    connection.execute(sqlalchemy.text("insert into tags (name) values (current_database())"))
"""
WITH_ASYNCPG = """
import asyncio, sqlalchemy, sqlalchemy.ext.asyncio
async def write():
    engine = sqlalchemy.ext.asyncio.create_async_engine(os.environ["DATABASE_URL"])
    async with engine.begin() as connection:
        await connection.execute(sqlalchemy.text("insert into tags (name) values (current_database())"))
    await engine.dispose()
asyncio.run(write())
"""
BY_SETTINGS = """
import sqlalchemy
from shop.worker import worker_engine
with worker_engine().begin() as connection:
    connection.execute(sqlalchemy.text("insert into tags (name) values (current_database())"))
"""


@pytest.mark.parametrize("program", [WITH_PSYCOPG, WITH_ASYNCPG, BY_SETTINGS], ids=["psycopg", "asyncpg", "settings"])
def test_a_program_with_an_engine_of_its_own_writes_to_the_lease(program: str, database: LeasedDatabase) -> None:
    subprocess.run([sys.executable, "-c", f"import os\n{program}"], cwd=ROOT, check=True, timeout=60)
    assert database.rows("select name from tags") == [(database.value("select current_database()"),)]


@contextlib.contextmanager
def started_program() -> Iterator[IsRunning]:
    """`python -m shop.worker`, as an operator starts it."""
    process = subprocess.Popen([sys.executable, "-m", "shop.worker"], cwd=ROOT)
    try:
        yield lambda: process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@contextlib.contextmanager
def spawned() -> Iterator[IsRunning]:
    """A process of `multiprocessing` that starts a fresh interpreter, as on macOS and Windows, and imports the shop."""
    process = multiprocessing.get_context("spawn").Process(target=main)
    process.start()
    try:
        yield process.is_alive
    finally:
        os.kill(process.pid or 0, signal.SIGINT)
        process.join(timeout=60)
        process.close()


@pytest.mark.parametrize("started", [started_program, spawned], ids=["program", "spawn"])
async def test_a_worker_in_another_process_works_off_the_jobs_of_the_lease(
    started: Callable[[], AbstractContextManager[IsRunning]], world: ShopWorld, database: LeasedDatabase
) -> None:
    for number in range(5):
        await world.post("/customers", email=f"{number}@shop.example", full_name="Ada")
    sent = "select count(*) from email_messages"
    with started() as is_running:
        wait_until(lambda: not is_running() or database.value(sent) == 5, "five welcomes were sent", 60)
        assert is_running()
    assert database.rows("select status, count(*) from jobs group by 1") == [("done", 5)]
    assert database.rows("select recipient from email_messages order by job_id") == [
        (f"{number}@shop.example",) for number in range(5)
    ]
