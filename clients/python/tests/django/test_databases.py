"""Django's aliases use the leased databases, and no worker creates or migrates a database."""

from __future__ import annotations

import json

import pytest
from django_projects import PLUGINS, DjangoProject

# Writes the statements of each process to a file of its own.
RECORDS = """
import os, pathlib, psycopg
execute = psycopg.Cursor.execute
def recording(self, query, *arguments, **named):
    with pathlib.Path(f"sql-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}.txt").open("a") as lines:
        lines.write(str(query) + "\\n")
    return execute(self, query, *arguments, **named)
if "PGDIBS_ALIAS" not in os.environ:
    psycopg.Cursor.execute = recording
"""
WHERE = """
import json, os, pathlib, pytest
from django.conf import settings
from django.db import connection, connections
from notes.models import Note
from trail.models import Entry
def name(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("select current_database()")
        return cursor.fetchone()[0]
@pytest.mark.parametrize("number", range(8))
@pytest.mark.django_db(databases={"default", "audit", "replica"})
def test_where(number):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    found = {alias: name(alias) for alias in ("default", "audit", "replica")}
    pathlib.Path(f"where-{worker}.json").write_text(json.dumps(found))
    assert [note.body for note in Note.objects.all()] == ["from the migration"]
    assert [entry.body for entry in Entry.objects.all()] == ["from the migration"]
    for alias in found:
        assert settings.DATABASES[alias] is connections.settings[alias] is connections[alias].settings_dict
        assert settings.DATABASES[alias]["NAME"] == found[alias] == settings.DATABASES[alias]["TEST"]["NAME"]
"""


def where(project: DjangoProject) -> list[dict[str, str]]:
    """The databases that the workers recorded."""
    return [json.loads(file.read_text()) for file in sorted(project.pytester.path.glob("where-*.json"))]


def test_workers_use_leases_and_create_no_database(project: DjangoProject) -> None:
    project.file("conftest.py", RECORDS)
    project.file("test_it.py", WHERE)
    project.run_django("-n2", "--dist=each").assert_passed(16)
    workers = where(project)
    assert len({worker["default"] for worker in workers}) == len({worker["audit"] for worker in workers}) == 2
    for worker in workers:
        assert worker["replica"] == worker["default"]
        assert worker["default"].startswith(f"{project.pool}_gw")
        assert worker["audit"].startswith(f"{project.pool}_audit_gw")
    assert project.builds == ["audit", "default"]
    statements = "\n".join(file.read_text() for file in project.pytester.path.glob("sql-*.txt")).lower()
    assert "notes_note" in statements
    for word in ("create database", "drop database", "create table", "django_migrations"):
        assert word not in statements
    # The next run finds the templates, also without workers.
    project.run_django("-n0").assert_passed(8)
    assert project.builds == ["audit", "default"]


@pytest.mark.long
def test_concurrent_runs_build_once(project: DjangoProject) -> None:
    project.file("test_it.py", WHERE)
    runs = [project.start("-n2", plugins=PLUGINS) for _ in range(2)]
    for run in runs:
        project.finish(run).assert_passed(8)
    assert project.builds == ["audit", "default"]


@pytest.mark.long
def test_threads_and_earlier_connections_use_the_lease(project: DjangoProject) -> None:
    project.file(
        "conftest.py",
        "from django.db import connection, connections\n"
        "connections['default'].settings_dict['NAME']\n"
        "held = connections['audit']\n",
    )
    project.file(
        "test_it.py",
        "import threading, pytest\n"
        "from conftest import held\n"
        "from django.db import connections\n"
        "from trail.models import Entry\n"
        "@pytest.mark.django_db(transaction=True, databases={'default', 'audit'})\n"
        "def test_it():\n"
        "    Entry.objects.create(body='x')\n"
        "    seen = []\n"
        "    def read():\n"
        "        seen.append(sorted(Entry.objects.values_list('body', flat=True)))\n"
        "        connections.close_all()\n"
        "    thread = threading.Thread(target=read)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    assert seen == [['from the migration', 'x']]\n"
        "    assert connections['audit'] is held\n",
    )
    project.run_django("-n1").assert_passed(1)


@pytest.mark.long
def test_options_that_override_the_lease_are_refused(project: DjangoProject) -> None:
    project.file("settings.py", project.text("settings.py") + "DATABASES['audit']['OPTIONS'] = {'dbname': 'postgres'}\n")
    project.file("test_it.py", "import pytest\n@pytest.mark.django_db\ndef test_it(): pass\n")
    project.settings["pgdibs_build"] = "true"
    ran = project.run_django()
    assert ran.status != 0
    assert "pgdibs: Django's alias `audit` " in ran.output
    assert 'DATABASES["audit"]' in ran.output
    assert "Traceback" not in ran.output


def test_tests_without_database_take_no_lease(project: DjangoProject) -> None:
    project.file("test_it.py", "from notes.models import Note\ndef test_it(): assert Note(body='x').body == 'x'\n")
    project.run_django().assert_passed(1)
    assert project.builds == []
    project.run_django("--collect-only", "-q", "-n2")
    assert project.builds == []


@pytest.mark.long
def test_alias_on_another_engine_is_created(project: DjangoProject) -> None:
    lite = "DATABASES['lite'] = {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'dev.sqlite3'}\n"
    project.file("settings.py", project.text("settings.py") + lite)
    router = project.text("trail/router.py")
    project.file("trail/router.py", router.replace('and db != "replica"', 'and db != "replica" or db == "lite"'))
    project.file(
        "test_it.py",
        "import pytest\nfrom notes.models import Note\n"
        "@pytest.mark.django_db(databases={'default', 'lite'})\n"
        "def test_it():\n"
        "    Note.objects.using('lite').create(body='x')\n"
        "    assert (Note.objects.count(), Note.objects.using('lite').count()) == (1, 1)\n",
    )
    project.run_django("-n2").assert_passed(1)
    assert not (project.pytester.path / "dev.sqlite3").exists()


@pytest.mark.long
def test_leases_before_django_reads_its_settings(project: DjangoProject) -> None:
    project.settings["pgdibs_env"] = "DATABASE_URL AUDIT_URL=audit"
    project.settings["pgdibs_aliases"] = f"audit={project.pool}_audit"
    project.file(
        "settings.py",
        project.text("settings.py")
        + "import os, urllib.parse\n"
        + "for alias, variable in (('default', 'DATABASE_URL'), ('audit', 'AUDIT_URL')):\n"
        + "    url = urllib.parse.urlsplit(os.environ[variable])\n"
        + "    DATABASES[alias].update(NAME=url.path[1:], HOST=url.hostname, PORT=url.port, USER=url.username,"
        + " PASSWORD=urllib.parse.unquote(url.password))\n",
    )
    project.file("test_it.py", WHERE)
    project.run_django("-n0").assert_passed(8)
    project.run_django("-n2").assert_passed(8)
    assert project.builds == ["audit", "default"]


@pytest.mark.long
def test_project_without_django_settings_works(project: DjangoProject) -> None:
    project.settings = {"pgdibs_pool": project.pool, "pgdibs_fingerprint": "schema.sql", "pgdibs_build": "psql -qf schema.sql"}
    project.file(
        "test_it.py",
        "import psycopg\ndef test_it(pgdibs_url):\n"
        "    with psycopg.connect(pgdibs_url) as connection:\n"
        "        assert connection.execute('select count(*) from notes').fetchone() == (0,)\n",
    )
    project.run_django("-n2").assert_passed(1)
