"""Child processes of Django tests read the settings again, and reach the lease by the variables that they inherit."""

from __future__ import annotations

import pytest
from developers import DeveloperDatabase
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
def test_child_processes_reach_lease_by_variables(project: DjangoProject, developer: DeveloperDatabase, workers: str) -> None:
    project.file("settings.py", project.text("settings.py") + BY_URL)
    for package in ("notes/management", "notes/management/commands"):
        project.file(f"{package}/__init__.py", "")
    project.file("notes/management/commands/write.py", COMMAND)
    project.file("spawned.py", SPAWNED)
    project.file("test_it.py", TESTS)
    project.environment["DATABASE_URL"] = developer.url().replace("postgresql://", "postgis://") + "?connect_timeout=7"
    project.environment["AUDIT_URL"] = developer.url().replace("127.0.0.1", "localhost").replace("shop_dev", "postgres")
    project.run_django(workers).assert_passed(2)
    developer.assert_untouched()


WITHOUT_LEASE = """
import os, subprocess, sys
import pytest
from django.db import connections
CREATE = "import django; django.setup(); from MODULE.models import MODEL; MODEL.objects.create(body='x')"
def run(model):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": "."}
    create = CREATE.replace("MODULE", "notes" if model == "Note" else "trail").replace("MODEL", model)
    return subprocess.run([sys.executable, "-c", create], env=environment, capture_output=True, text=True)
@pytest.mark.parametrize("model", ["Note", "Entry"])
def test_before_the_lease(model):
    ran = run(model)
    assert ran.returncode != 0 and "127.0.0.1\\", port 1 failed" in ran.stderr, ran.stderr
    assert os.environ["DATABASE_URL"].startswith("postgis://only-test-processes-have-a-database:")
    assert os.environ["DATABASE_URL"].endswith("?connect_timeout=7")
    assert connections["default"].settings_dict["NAME"] == "shop_dev"
"""
AND_THEN_LEASE = """
@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_with_the_lease():
    from notes.models import Note
    assert run("Note").returncode == run("Entry").returncode == 0
    assert Note.objects.filter(body="x").count() == 1
"""
THREE_ALIASES = """
import pytest
from django.db import connections
from notes.models import Note
@pytest.mark.django_db(databases="__all__")
def test_it():
    assert Note.objects.using("reports").count() == 0
    assert len({connections[alias].settings_dict["NAME"] for alias in ("default", "audit", "reports")}) == 3
"""
# In processes without a lease: the controller, --collect-only, --pgdibs=off.
IN_CONFTEST = """
import os, pathlib, subprocess, sys
create = "import django; django.setup(); from notes.models import Note; Note.objects.create(body='x')"
environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": "."}
status = subprocess.run([sys.executable, "-c", create], env=environment, capture_output=True).returncode
with pathlib.Path("statuses.txt").open("a") as file:
    file.write(f"{status} {os.environ['AUDIT_URL']}\\n")
"""


@pytest.fixture
def by_url(project: DjangoProject, developer: DeveloperDatabase) -> DjangoProject:
    """A project whose settings read the developer's databases from variables."""
    project.file("settings.py", project.text("settings.py") + BY_URL)
    project.environment["DATABASE_URL"] = developer.url().replace("postgresql://", "postgis://") + "?connect_timeout=7"
    project.environment["AUDIT_URL"] = developer.url().replace("127.0.0.1", "localhost").replace("shop_dev", "postgres")
    return project


@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_child_processes_before_lease_reach_no_database(
    by_url: DjangoProject, developer: DeveloperDatabase, workers: str
) -> None:
    by_url.file("test_it.py", WITHOUT_LEASE)
    ran = by_url.run_django(workers)
    developer.assert_untouched()
    ran.assert_passed(2)


@pytest.mark.long
def test_unavailable_variables_are_set_with_the_lease(by_url: DjangoProject, developer: DeveloperDatabase) -> None:
    # Undoes the order of pytest-django, which runs tests with a database first.
    order = "def pytest_collection_modifyitems(items):\n    items.sort(key=lambda item: 'with_the' in item.name)\n"
    by_url.file("conftest.py", order)
    by_url.file("test_it.py", WITHOUT_LEASE + AND_THEN_LEASE)
    ran = by_url.run_django("-n0")
    developer.assert_untouched()
    ran.assert_passed(3)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_aliases_with_unavailable_variables_keep_own_databases(
    by_url: DjangoProject, developer: DeveloperDatabase, workers: str
) -> None:
    by_url.pools.append(f"{by_url.pool}_reports")
    by_url.client.put_pool(by_url.pools[-1], warm=1, max=4)
    by_url.file("settings.py", by_url.text("settings.py") + 'DATABASES["reports"] = by("REPORTS_URL")\n')
    by_url.environment["REPORTS_URL"] = developer.url().replace("shop_dev", "template1")
    by_url.file("test_it.py", THREE_ALIASES)
    ran = by_url.run_django(workers)
    developer.assert_untouched()
    ran.assert_passed(1)


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    [["-n2"], *(pytest.param(["-n0", option], marks=pytest.mark.long) for option in ("--collect-only", "--pgdibs=off"))],
    ids=" ".join,
)
def test_child_processes_of_conftest_reach_no_database(
    by_url: DjangoProject, developer: DeveloperDatabase, arguments: list[str]
) -> None:
    by_url.file("conftest.py", IN_CONFTEST)
    by_url.file("test_it.py", "def test_nothing():\n    pass\n")
    ran = by_url.run_django(*arguments)
    developer.assert_untouched()
    assert ran.status == 0, ran.output
    unavailable = "postgresql://only-test-processes-have-a-database:none@127.0.0.1:1/none"
    assert set(by_url.text("statuses.txt").splitlines()) == {f"1 {unavailable}"}
