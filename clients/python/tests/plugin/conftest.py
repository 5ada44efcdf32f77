"""Fixtures: one daemon for all tests, and a project with a pool of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from developers import developer as developer
from developers import developers_database as developers_database
from projects import Daemon, Project

from pgdibs import Client


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """One daemon for all tests; the end stops it with its Postgres."""
    daemon = Daemon()
    yield daemon
    daemon.remove()


@pytest.fixture(scope="session")
def shared_pool(daemon: Daemon) -> str:
    """The pool of the tests with the marker `shared_pool`; it ends with the daemon."""
    pool = f"p{uuid.uuid4().hex[:8]}"
    Client(daemon.url).put_pool(pool, warm=0, spares=0, max=8)
    return pool


@pytest.fixture
def project(request: pytest.FixtureRequest, pytester: pytest.Pytester, daemon: Daemon) -> Iterator[Project]:
    """A project with a pool of its own, or the shared one; the test must leave no lease.

    No warm databases: most tests use one or two, and creating them is most of the cost of a test.
    """
    is_shared = request.node.get_closest_marker("shared_pool") is not None
    pool = request.getfixturevalue("shared_pool") if is_shared else f"p{uuid.uuid4().hex[:8]}"
    project = Project(pytester, daemon, pool)
    if not is_shared:
        project.client.put_pool(pool, warm=0, spares=0, max=8)
    yield project
    kept = project.counts()["kept"]
    project.assert_no_leases(kept)
    if not is_shared:
        project.client.call("DELETE", f"/v1/pools/{pool}?force=true")
    project.client.close()
