"""The fixtures: one real daemon for all tests, a pool of its own for each, and a scripted server for what a daemon never does."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from scripted import Scripted
from support import Daemon, end_started, make_schema

import pgdibs


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """One daemon for all tests; it is stopped, with its Postgres, at the end."""
    daemon = Daemon(PGDIBS_ADVERTISE="network=db.internal:5433")
    yield daemon
    daemon.remove()


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set outside is for others; PGDIBS_BIN says which program is tested."""
    for name in list(os.environ):
        if name.startswith("PGDIBS_") and name not in ("PGDIBS_BIN", "PGDIBS_PG_BIN_DIR"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def without_leftovers() -> Iterator[None]:
    """No process of a failed test goes on into the next."""
    yield
    end_started()


@pytest.fixture
def client(daemon: Daemon) -> pgdibs.Client:
    """A client of the daemon."""
    return pgdibs.Client(daemon.url)


# Nothing is made in advance: most tests use one database or two, and to make one is most of what a test costs.
SETTINGS = {"warm": 0, "spares": 0, "max": 4}


@pytest.fixture
def empty_pool(client: pgdibs.Client) -> Iterator[str]:
    """A pool without a template; at the end of the test nothing in it is leased."""
    pool = f"c{uuid.uuid4().hex[:8]}"
    client.put_pool(pool, **SETTINGS)
    yield pool
    assert client.leases(pool=pool) == []
    client.call("DELETE", f"/v1/pools/{pool}?force=true")


@pytest.fixture(scope="session")
def shared_pool() -> str:
    """The pool of all tests that need nothing but a template; it is deleted with the daemon."""
    return f"c{uuid.uuid4().hex[:8]}"


@pytest.fixture
def pool(client: pgdibs.Client, shared_pool: str) -> Iterator[str]:
    """A pool whose template has the table `notes`; at the end of the test nothing in it is leased."""
    client.put_pool(shared_pool, **SETTINGS)
    client.ensure_template(shared_pool, "v1", make_schema)
    yield shared_pool
    assert client.leases(pool=shared_pool) == []


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """A server that answers as it is told."""
    with Scripted() as server:
        yield server
