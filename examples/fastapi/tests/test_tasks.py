"""Tests that commit: ids start at 1 in each of them, and no test sees the rows of another."""

from fastapi.testclient import TestClient


def test_task_is_stored(client: TestClient) -> None:
    assert client.post("/tasks", params={"body": "milk"}).json() == {"id": 1}
    assert client.get("/tasks").json() == ["milk"]


def test_task_exists_once(client: TestClient) -> None:
    assert client.post("/tasks", params={"body": "milk"}).status_code == 201
    assert client.post("/tasks", params={"body": "milk"}).status_code == 409


def test_list_is_empty_at_first(client: TestClient) -> None:
    assert client.get("/tasks").json() == []
