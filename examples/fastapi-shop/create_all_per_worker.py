"""The tests as they run without pgdibs: each worker drops its database, makes it again and fills it with `create_all`.

    PGHOST=127.0.0.1 PGUSER=postgres PGPASSWORD=… python -m pytest -c create_all.ini -n 4

A plugin for comparison (clients/python/bench/whole_runs.py); tests that end leases are left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

# Tables, sequences and indexes are `create_all`'s; triggers, views and seeded rows only the later migrations have.
LAST_REVISION_OF_TABLES = "0005"
LOGIN = "shop_create_all"
MADE_TWICE = "drop index ix_products_search"


@dataclass
class OwnDatabase:
    """What the fixtures ask of a lease, on a database that the worker made itself."""

    database: str
    url: str
    generation: int = 1


def make_schema(url: str) -> None:
    """`create_all`, then what the models do not say."""
    from alembic.config import Config
    from sqlalchemy import create_engine

    from alembic import command
    from shop.models import Base

    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        connection.exec_driver_sql(MADE_TWICE)
    engine.dispose()
    alembic = Config("alembic.ini")
    command.stamp(alembic, LAST_REVISION_OF_TABLES)
    command.upgrade(alembic, "head")


def administration() -> psycopg.Connection[Any]:
    """As the server's superuser, on the Postgres of PGHOST and so on."""
    return psycopg.connect("", dbname="postgres", autocommit=True)


def make_login() -> None:
    """One login for all workers: what the tests may do is what an application may, not what a superuser may."""
    with administration() as connection:
        if connection.execute("select from pg_roles where rolname = %s", (LOGIN,)).fetchone() is None:
            connection.execute(f"create role {LOGIN} login password '{LOGIN}'")


def database_of(worker: str) -> OwnDatabase:
    """The worker's database, created again."""
    name = f"{LOGIN}_{worker}"
    with administration() as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name} owner {LOGIN}")
        info = connection.info
        return OwnDatabase(name, f"postgresql://{LOGIN}:{LOGIN}@{info.host}:{info.port}/{name}")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before tests/conftest.py imports the application; the controller of `-n` imports it too, and runs no test."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        make_login()
        if early_config.known_args_namespace.numprocesses:
            os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"] = (
                "postgresql+asyncpg://nobody@127.0.0.1:1/none"
            )
            return
    own = database_of(worker or "main")
    os.environ["DATABASE_URL"] = own.url.replace("postgresql://", "postgresql+asyncpg://", 1)
    os.environ["TEST_DATABASE_URL"] = own.url.replace("postgresql://", "postgresql+psycopg://", 1)
    make_schema(own.url)
    early_config.stash[OWN] = own


OWN = pytest.StashKey[OwnDatabase]()


@pytest.fixture(scope="session")
def pgdibs_lease(pytestconfig: pytest.Config) -> OwnDatabase:
    """Stands where the lease stands with pgdibs."""
    return pytestconfig.stash[OWN]
