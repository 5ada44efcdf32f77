"""Fixtures: one daemon for all tests, and a Django project with pools of its own for each test."""

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
    """One daemon for all tests; the end stops it with its Postgres."""
    daemon = Daemon()
    yield daemon
    daemon.remove()


@pytest.fixture
def project(pytester: pytest.Pytester, daemon: Daemon) -> Iterator[DjangoProject]:
    """A project whose aliases have pools of their own; the test must leave no lease."""
    project = DjangoProject(pytester, daemon, f"d{uuid.uuid4().hex[:8]}")
    for pool in project.pools:
        project.client.put_pool(pool, warm=2, spares=0, max=8)
    yield project
    project.assert_no_leases()
    for pool in project.pools:
        project.client.call("DELETE", f"/v1/pools/{pool}?force=true")
