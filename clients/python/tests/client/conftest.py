"""Fixtures: a real daemon for all tests, pools, and a scripted server for answers that a daemon does not give."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from scripted import Scripted
from support import Daemon, end_started, eventually, make_schema

import pgdibs


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """One daemon for all tests; the end stops it with its Postgres."""
    daemon = Daemon(PGDIBS_ADVERTISE="network=db.internal:5433")
    yield daemon
    daemon.remove()


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables of the outer environment, except those that select the program under test."""
    for name in list(os.environ):
        if name.startswith("PGDIBS_") and name not in ("PGDIBS_BIN", "PGDIBS_PG_BIN_DIR"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def without_leftovers() -> Iterator[None]:
    """End the processes that a failed test has left."""
    yield
    end_started()


@pytest.fixture
def client(daemon: Daemon) -> pgdibs.Client:
    """A client of the daemon."""
    return pgdibs.Client(daemon.url)


# No warm databases: most tests use one or two, and creating them is most of the cost of a test.
SETTINGS = {"warm": 0, "spares": 0, "max": 4}


@pytest.fixture
def empty_pool(client: pgdibs.Client) -> Iterator[str]:
    """A pool without a template; the test must release all its leases."""
    pool = f"c{uuid.uuid4().hex[:8]}"
    client.put_pool(pool, **SETTINGS)
    yield pool
    assert client.leases(pool=pool) == []
    client.call("DELETE", f"/v1/pools/{pool}?force=true")


@pytest.fixture(scope="session")
def shared_pool() -> str:
    """The pool of all tests that need only a template; it ends with the daemon."""
    return f"c{uuid.uuid4().hex[:8]}"


@pytest.fixture
def pool(client: pgdibs.Client, shared_pool: str) -> Iterator[str]:
    """A pool whose template has the table `notes`; the test must release all its leases."""
    client.put_pool(shared_pool, **SETTINGS)
    client.ensure_template(shared_pool, "v1", make_schema)
    yield shared_pool
    assert client.leases(pool=shared_pool) == []


@pytest.fixture
def pool_of_one(client: pgdibs.Client, pool: str) -> str:
    """The pool with a limit of one database, once it has no more: a waiter would get a second one of an earlier test."""
    client.put_pool(pool, max=1)

    def has_at_most_one() -> bool:
        counts = client.call("GET", f"/v1/pools/{pool}")["counts"]
        return bool(counts["ready"] + counts["creating"] + counts["spare"] <= 1)

    eventually(has_at_most_one)
    return pool


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """A server with scripted answers."""
    with Scripted() as server:
        yield server
