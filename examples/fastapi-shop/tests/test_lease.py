"""The lease itself: one clean database for every variable, with rights over it and none beyond it."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.parse
from typing import Any

import httpx
import psycopg
import pytest
from pgdibs import Client, Lease, Unreachable
from sqlalchemy import text

from shop.database import engine
from shop.settings import settings
from shop.worker import Worker
from tests.clean_database import LeasedDatabase
from tests.shop_world import ShopWorld


async def test_the_application_and_the_worker_and_the_tests_are_on_the_leased_database(
    pgdibs_lease: Lease, worker: Worker, client: httpx.AsyncClient, database: LeasedDatabase
) -> None:
    async with engine.connect() as connection:
        of_engine = await connection.scalar(text("select current_database()"))
    with worker.engine.connect() as connection_of_worker:
        of_worker = connection_of_worker.scalar(text("select current_database()"))
    of_request = (await client.get("/health")).json()["database"]
    assert {of_engine, of_worker, of_request, database.value("select current_database()")} == {pgdibs_lease.database}


def test_every_process_has_one_witness_and_it_is_ours(database: LeasedDatabase, pgdibs_lease: Lease) -> None:
    ((run, worker, generation),) = database.rows("select run, worker, generation from session_witnesses")
    assert worker == os.environ.get("PYTEST_XDIST_WORKER", "main")
    assert run == os.environ.get("PYTEST_XDIST_TESTRUNUID", "no xdist")
    assert generation == pgdibs_lease.generation


@pytest.mark.parametrize(
    ("name", "driver"), [("DATABASE_URL", "postgresql+asyncpg"), ("TEST_DATABASE_URL", "postgresql+psycopg")]
)
def test_a_variable_keeps_its_driver_and_points_at_the_lease(name: str, driver: str, pgdibs_lease: Lease) -> None:
    variable, leased = urllib.parse.urlsplit(os.environ[name]), urllib.parse.urlsplit(pgdibs_lease.url)
    assert variable.scheme == driver
    assert (variable.netloc, variable.path) == (leased.netloc, leased.path)


def test_the_query_string_of_the_settings_reaches_the_driver(worker: Worker) -> None:
    assert "prepared_statement_cache_size=" in settings.database_url
    with worker.engine.connect() as connection:
        assert connection.scalar(text("show application_name")) == "shop-worker"


def leases_of(pool: str) -> list[dict[str, Any]]:
    """What the daemon says is leased. It may just be starting again: `run_suites.py` kills one in the middle."""
    deadline = time.monotonic() + 60
    with contextlib.closing(Client()) as client:
        while True:
            try:
                return client.leases(pool=pool)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)  # the pause between two looks


def test_our_lease_is_live_and_shown_without_its_password(pgdibs_lease: Lease) -> None:
    (ours,) = [shown for shown in leases_of(pgdibs_lease.pool) if shown["id"] == pgdibs_lease.id]
    assert ours["database"] == pgdibs_lease.database
    password = urllib.parse.urlsplit(pgdibs_lease.url).password
    assert password is not None
    assert password not in str(ours)


def test_the_login_is_no_superuser(database: LeasedDatabase) -> None:
    assert (
        database.value("select rolsuper or rolcreatedb or rolcreaterole from pg_roles where rolname = current_user")
        is False
    )
    assert (
        database.value("select rolsuper or rolcreatedb or rolcreaterole from pg_roles where rolname = session_user")
        is False
    )


def test_the_session_acts_as_the_owner_of_the_tables(database: LeasedDatabase) -> None:
    assert (
        database.value("select bool_and(tableowner = current_user) from pg_tables where schemaname = 'public'") is True
    )


@pytest.mark.parametrize(
    "statement",
    [
        "create role intruder login",
        "create database another",
        "alter system set work_mem = '1MB'",
        "drop database {sibling}",
        "alter database {own} rename to another",
        "alter database {own} set work_mem = '1MB'",
        "copy orders to program 'cat'",
    ],
)
def test_what_reaches_beyond_the_database_is_refused(
    statement: str, database: LeasedDatabase, pgdibs_lease: Lease
) -> None:
    siblings = database.rows(
        "select datname from pg_database where datname <> current_database() and datname ~ '^shop_test' order by 1"
    )
    sibling = siblings[0][0] if siblings else "postgres"
    with pytest.raises(psycopg.Error) as refused:
        database.run(statement.format(own=f'"{pgdibs_lease.database}"', sibling=f'"{sibling}"'))
    # 42501 insufficient_privilege; 42809 wrong_object_type: a template cannot be dropped by anybody.
    assert refused.value.sqlstate in ("42501", "42809")


async def test_a_reset_gives_a_clean_database_under_the_same_name(
    database_to_destroy: LeasedDatabase, pgdibs_lease: Lease, world: ShopWorld, worker: Worker
) -> None:
    database = database_to_destroy
    oid = database.value("select oid from pg_database where datname = current_database()")
    generation, url = pgdibs_lease.generation, pgdibs_lease.url
    await world.customer()
    database.run("drop table countries cascade")
    await engine.dispose()
    worker.engine.dispose()
    database.reset()
    assert (pgdibs_lease.generation, pgdibs_lease.url) == (generation + 1, url)
    assert database.value("select oid from pg_database where datname = current_database()") != oid
    assert database.value("select count(*) from countries") == 21
    assert await world.customer() == 1


async def test_the_application_works_on_after_the_schema_was_dropped_and_the_lease_reset(
    database_to_destroy: LeasedDatabase, world: ShopWorld, worker: Worker
) -> None:
    database_to_destroy.run("drop schema public cascade")
    await engine.dispose()
    worker.engine.dispose()
    database_to_destroy.reset()
    order = await world.order()
    assert order["number"] == "S-1000"
    assert len(worker.run_all()) == 2
