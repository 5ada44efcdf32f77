"""The fixtures: one daemon for all tests, and a project with a pool of its own for each."""

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
    """One daemon for all tests; it is stopped, with its Postgres, at the end."""
    daemon = Daemon()
    yield daemon
    daemon.remove()


@pytest.fixture(scope="session")
def shared_pool(daemon: Daemon) -> str:
    """The pool of the tests that are marked so; it is deleted with the daemon."""
    pool = f"p{uuid.uuid4().hex[:8]}"
    Client(daemon.url).put_pool(pool, warm=0, spares=0, max=8)
    return pool


@pytest.fixture
def project(request: pytest.FixtureRequest, pytester: pytest.Pytester, daemon: Daemon) -> Iterator[Project]:
    """A project with a pool of its own, or the shared one; at the end of the test nothing of it may be left.

    Nothing is made in advance: most tests use one database or two, and to make one is most of what a test costs.
    """
    is_shared = request.node.get_closest_marker("shared_pool") is not None
    pool = request.getfixturevalue("shared_pool") if is_shared else f"p{uuid.uuid4().hex[:8]}"
    project = Project(pytester, daemon, pool)
    if not is_shared:
        project.client.put_pool(pool, warm=0, spares=0, max=8)
    yield project
    kept = project.counts()["kept"]
    project.assert_nothing_is_left(kept)
    if not is_shared:
        project.client.call("DELETE", f"/v1/pools/{pool}?force=true")
    project.client.close()
