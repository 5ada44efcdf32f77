"""The fixtures: one daemon for all tests, and a project with a pool of its own for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from developers import DeveloperDatabase, Server
from projects import Daemon, Project


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """One daemon for all tests; it is stopped, with its Postgres, at the end."""
    daemon = Daemon()
    yield daemon
    daemon.remove()


@pytest.fixture
def project(pytester: pytest.Pytester, daemon: Daemon) -> Iterator[Project]:
    """A project with a pool of its own; at the end of the test nothing of it may be left."""
    pool = f"p{uuid.uuid4().hex[:8]}"
    project = Project(pytester, daemon, pool)
    project.client.put_pool(pool, warm=2, spares=1, max=8)
    yield project
    kept = project.counts()["kept"]
    project.assert_nothing_is_left(kept)
    project.client.call("DELETE", f"/v1/pools/{pool}?force=true")
    project.client.close()


@pytest.fixture(scope="session")
def developers_server() -> Iterator[Server]:
    """A Postgres that is not the daemon's, on another port."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def developer(developers_server: Server) -> Iterator[DeveloperDatabase]:
    """A database that is not of any pool, full of rows."""
    database = DeveloperDatabase(developers_server)
    yield database
    database.drop()
