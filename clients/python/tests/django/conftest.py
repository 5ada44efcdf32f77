"""The fixtures: one daemon for all tests, and a Django project with pools of its own for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from developers import developer as developer
from developers import developers_database as developers_database
from django_projects import DjangoProject
from projects import Daemon


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """One daemon for all tests; it is stopped, with its Postgres, at the end."""
    daemon = Daemon()
    yield daemon
    daemon.remove()


@pytest.fixture
def project(pytester: pytest.Pytester, daemon: Daemon) -> Iterator[DjangoProject]:
    """A project whose aliases have pools of their own; at the end of the test nothing of it may be left."""
    project = DjangoProject(pytester, daemon, f"d{uuid.uuid4().hex[:8]}")
    for pool in project.pools:
        project.client.put_pool(pool, warm=2, spares=0, max=8)
    yield project
    project.assert_all_is_given_back()
    for pool in project.pools:
        project.client.call("DELETE", f"/v1/pools/{pool}?force=true")
