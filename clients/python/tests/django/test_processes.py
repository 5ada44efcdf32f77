"""Processes that Django's tests start read the settings again: with the variables that they inherit they reach the lease."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from developer_server import DeveloperServer
from django_projects import DjangoProject

BY_URL = """
import os
from urllib.parse import unquote, urlsplit
def by(name):
    url = urlsplit(os.environ[name])
    where = {"HOST": url.hostname, "PORT": url.port or "", "USER": url.username, "PASSWORD": unquote(url.password or "")}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], **where}
DATABASES = {"default": by("DATABASE_URL"), "audit": by("AUDIT_URL")}
"""
COMMAND = """
from django.core.management.base import BaseCommand
from notes.models import Note
from trail.models import Entry
class Command(BaseCommand):
    def handle(self, **options):
        Note.objects.create(body="from a process")
        Entry.objects.create(body="from a process")
"""
SPAWNED = """
def write():
    import django
    django.setup()
    from django.core.management import call_command
    call_command("write")
"""
TESTS = """
import multiprocessing, subprocess, sys
import pytest, spawned
from notes.models import Note
from trail.models import Entry
@pytest.mark.parametrize("way", ["command", "spawn"])
@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_it(way):
    if way == "command":
        subprocess.run([sys.executable, "-m", "django", "write", "--settings", "settings", "--pythonpath", "."], check=True)
    else:
        process = multiprocessing.get_context("spawn").Process(target=spawned.write)
        process.start()
        process.join(60)
        assert process.exitcode == 0
    assert Note.objects.filter(body="from a process").count() == 1
    assert Entry.objects.filter(body="from a process").count() == 1
"""


@pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])
def test_processes_of_a_test_reach_the_lease_by_the_variables_of_the_settings(
    project: DjangoProject, developer_server: DeveloperServer, workers: str
) -> None:
    server = developer_server
    project.file("settings.py", project.text("settings.py") + BY_URL)
    for package in ("notes/management", "notes/management/commands"):
        project.file(f"{package}/__init__.py", "")
    project.file("notes/management/commands/write.py", COMMAND)
    project.file("spawned.py", SPAWNED)
    project.file("test_it.py", TESTS)
    project.environment["DATABASE_URL"] = server.url.replace("postgresql://", "postgis://") + "?connect_timeout=7"
    project.environment["AUDIT_URL"] = server.url.replace("127.0.0.1", "localhost").replace("shop_dev", "postgres")
    project.run_django(workers).assert_passed(2)
    server.assert_unchanged()


@pytest.fixture
def developer_server(server: DeveloperServer) -> Iterator[DeveloperServer]:
    """The developer's own server; what a failed test has done to it is undone."""
    yield server
    server.restore()
