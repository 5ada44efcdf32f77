"""The lease itself: one clean database for every variable, with rights over it and none beyond it."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import text

from shop.database import engine
from shop.settings import settings
from shop.worker import Worker
from tests.clean_database import LeasedDatabase
from tests.pgdibs_lease import Daemon, DaemonSilent, Lease, fingerprint_of, point_variables_at
from tests.shop_world import ShopWorld


async def test_the_application_and_the_worker_and_the_tests_are_on_the_leased_database(
    lease: Lease, worker: Worker, client: httpx.AsyncClient, database: LeasedDatabase
) -> None:
    async with engine.connect() as connection:
        of_engine = await connection.scalar(text("select current_database()"))
    with worker.engine.connect() as connection_of_worker:
        of_worker = connection_of_worker.scalar(text("select current_database()"))
    of_request = (await client.get("/health")).json()["database"]
    assert {of_engine, of_worker, of_request, database.value("select current_database()")} == {lease.database}


def test_every_process_has_one_witness_and_it_is_ours(database: LeasedDatabase, lease: Lease) -> None:
    ((run, worker, generation),) = database.rows("select run, worker, generation from session_witnesses")
    assert worker == os.environ.get("PYTEST_XDIST_WORKER", "main")
    assert run == os.environ.get("PYTEST_XDIST_TESTRUNUID", "no xdist")
    assert generation == lease.generation


@pytest.mark.parametrize(
    ("name", "driver"), [("DATABASE_URL", "postgresql+asyncpg"), ("TEST_DATABASE_URL", "postgresql+psycopg")]
)
def test_a_variable_keeps_its_driver_and_points_at_the_lease(name: str, driver: str, lease: Lease) -> None:
    variable, leased = urllib.parse.urlsplit(os.environ[name]), urllib.parse.urlsplit(lease.url)
    assert variable.scheme == driver
    assert (variable.netloc, variable.path) == (leased.netloc, leased.path)


def test_the_query_string_of_the_settings_reaches_the_driver(worker: Worker) -> None:
    assert "prepared_statement_cache_size=" in settings.database_url
    with worker.engine.connect() as connection:
        assert connection.scalar(text("show application_name")) == "shop-worker"


@pytest.mark.parametrize(
    ("before", "leased", "after"),
    [
        ("", "postgresql://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgresql+asyncpg://a@b/c", "postgresql://u:p@h:1/d", "postgresql+asyncpg://u:p@h:1/d"),
        ("postgresql+asyncpg://a@b/c?x=0", "postgresql://u:p@h:1/d", "postgresql+asyncpg://u:p@h:1/d?x=0"),
        ("postgres://a/c?x=0", "postgresql://u@h/d?sslmode=require", "postgres://u@h/d?sslmode=require&x=0"),
        ("postgresql+psycopg://a/c", "postgresql://u:p%40s@[::1]:1/d", "postgresql+psycopg://u:p%40s@[::1]:1/d"),
    ],
)
def test_pointing_a_variable(before: str, leased: str, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_URL", before)
    point_variables_at(leased, "SOME_URL")
    assert os.environ["SOME_URL"] == after


def test_the_fingerprint_changes_with_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one")
    first = fingerprint_of(tmp_path, ["*.py"])
    (tmp_path / "ignored.txt").write_text("two")
    assert fingerprint_of(tmp_path, ["*.py", "a.*"]) == first
    (tmp_path / "a.py").write_text("two")
    second = fingerprint_of(tmp_path, ["*.py"])
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, fingerprint_of(tmp_path, ["*.py"])}) == 3


def test_a_daemon_that_is_not_there_is_named_in_the_error() -> None:
    with pytest.raises(DaemonSilent, match="pgdibs serve"):
        Daemon("http://127.0.0.1:1").ask("GET", "/livez")


def test_the_daemon_answers_without_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    status, answer, _retry_after = Daemon().ask("GET", "/v1/leases")
    assert status == 200
    assert isinstance(answer["leases"], list)


def test_our_lease_is_live_and_shown_without_its_password(lease: Lease) -> None:
    _status, answer, _retry_after = Daemon().ask("GET", "/v1/leases")
    (ours,) = [shown for shown in answer["leases"] if shown["id"] == lease.id]
    assert ours["database"] == lease.database
    password = urllib.parse.urlsplit(lease.url).password
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
def test_what_reaches_beyond_the_database_is_refused(statement: str, database: LeasedDatabase, lease: Lease) -> None:
    siblings = database.rows(
        "select datname from pg_database where datname <> current_database() and datname ~ '^shop_test' order by 1"
    )
    sibling = siblings[0][0] if siblings else "postgres"
    with pytest.raises(psycopg.Error) as refused:
        database.run(statement.format(own=f'"{lease.database}"', sibling=f'"{sibling}"'))
    # 42501 insufficient_privilege; 42809 wrong_object_type: a template cannot be dropped by anybody.
    assert refused.value.sqlstate in ("42501", "42809")


async def test_a_reset_gives_a_clean_database_under_the_same_name(
    database_to_destroy: LeasedDatabase, lease: Lease, world: ShopWorld, worker: Worker
) -> None:
    database = database_to_destroy
    oid = database.value("select oid from pg_database where datname = current_database()")
    generation, url = lease.generation, lease.url
    await world.customer()
    database.run("drop table countries cascade")
    await engine.dispose()
    worker.engine.dispose()
    database.reset()
    assert (lease.generation, lease.url) == (generation + 1, url)
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
