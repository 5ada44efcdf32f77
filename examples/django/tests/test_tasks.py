"""Tests of three kinds; the database is clean in each of them."""

import pytest
from django.db import IntegrityError
from django.test import Client

from tasks.models import Task


@pytest.mark.django_db
def test_task_is_stored(client: Client) -> None:
    assert client.post("/tasks", {"body": "milk"}).json() == ["milk"]
    assert client.get("/tasks").json() == ["milk"]


@pytest.mark.django_db
def test_task_exists_once() -> None:
    Task.objects.create(body="milk")
    with pytest.raises(IntegrityError):
        Task.objects.create(body="milk")


@pytest.mark.django_db(transaction=True, reset_sequences=True)
def test_committed_task_has_the_first_id() -> None:
    Task.objects.create(body="milk")
    assert Task.objects.get().pk == 1
