"""The fixtures. The application is imported here, at the top, as in any project: its engine is on the leased database,
because pgdibs's pytest plugin has taken the lease before pytest reads this file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio
from pgdibs import Lease

from shop.database import engine
from shop.main import app
from shop.worker import Worker
from tests.clean_database import LeasedDatabase
from tests.shop_world import ShopWorld


@pytest.fixture(scope="session")
def leased_database(pgdibs_lease: Lease) -> Iterator[LeasedDatabase]:
    """The tests' own connection, after it has found the database clean."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "no xdist")
    database = LeasedDatabase(pgdibs_lease, run, os.environ.get("PYTEST_XDIST_WORKER", "main"))
    yield database
    database.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine_of_the_application() -> AsyncIterator[None]:
    """Closes the application's connections at the end of the session, before the lease is released."""
    yield
    await engine.dispose()


@pytest.fixture(scope="session")
def worker_of_the_session() -> Iterator[Worker]:
    """One worker for the whole session, for tests that say themselves when it works."""
    worker = Worker()
    yield worker
    worker.stop()


@pytest.fixture(autouse=True)
def database(leased_database: LeasedDatabase, engine_of_the_application: None) -> Iterator[LeasedDatabase]:
    """A clean database for each test."""
    yield leased_database
    leased_database.restore()


@pytest_asyncio.fixture(loop_scope="session")
async def database_to_destroy(leased_database: LeasedDatabase, worker: Worker) -> AsyncIterator[LeasedDatabase]:
    """For tests after which nothing can be mended: the lease is reset when they end."""
    yield leased_database
    await engine.dispose()
    worker.engine.dispose()
    leased_database.reset()


@pytest.fixture
def worker(worker_of_the_session: Worker, database: LeasedDatabase) -> Worker:
    """A worker that works when told: `run_one`, `run_all`."""
    return worker_of_the_session


@pytest.fixture
def running_worker(database: LeasedDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker in a thread of its own, with connections of its own, as in production."""
    monkeypatch.setattr("shop.worker.settings.worker_poll_seconds", 0.01)
    worker = Worker()
    worker.start()
    yield worker
    worker.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client_of_the_session() -> AsyncIterator[httpx.AsyncClient]:
    """HTTP without a network: requests go straight into the application."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        yield client


@pytest.fixture
def client(client_of_the_session: httpx.AsyncClient, database: LeasedDatabase) -> httpx.AsyncClient:
    """The client, on a clean database."""
    return client_of_the_session


@pytest.fixture
def world(client: httpx.AsyncClient) -> ShopWorld:
    """Makes customers, products and orders through the API."""
    return ShopWorld(client)
