"""Each test that asks for the client has a clean database, however much the application commits."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.main import app


@pytest.fixture
def client(pgdibs_fresh_url: str) -> Iterator[TestClient]:
    """A client of the application."""
    with TestClient(app) as client:
        yield client
