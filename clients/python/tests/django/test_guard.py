"""The connection guard in Django projects whose settings name a developer's own database."""

from __future__ import annotations

import pytest
from developers import DeveloperDatabase
from django_projects import SETTINGS, DjangoProject

WORKERS = pytest.mark.parametrize("workers", ["-n2", pytest.param("-n0", marks=pytest.mark.long)])

NOTES = """
import pytest
from django.db import connection
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", range(10))
def test_note(number):
    with connection.cursor() as cursor:
        cursor.execute("insert into notes (body) values ('of a test')")
"""
# pytest-django's documented way to use a database that exists.
EXISTING = "import pytest\n\n@pytest.fixture(scope='session')\ndef django_db_setup():\n    pass\n"
# As in public projects: a copy of the original fixture, to load data.
COPIED = """
import pytest
from django.test.utils import setup_databases

@pytest.fixture(scope="session")
def django_db_setup(django_test_environment, django_db_blocker):
    with django_db_blocker.unblock():
        setup_databases(verbosity=0, interactive=False)
"""


@pytest.fixture
def live(project: DjangoProject, developer: DeveloperDatabase) -> DjangoProject:
    """A project whose settings name the developer's database, which takes connections."""
    place = f'{{"HOST": "127.0.0.1", "PORT": "{developer.server.port}", "USER": "postgres"}}'
    old = '{"HOST": "127.0.0.1", "PORT": "1", "USER": "dev"}'
    assert old in SETTINGS
    project.file("settings.py", SETTINGS.replace(old, place).replace('"dev"', f'"{developer.name}"'))
    project.file("test_notes.py", NOTES)
    return project


@WORKERS
@pytest.mark.parametrize("setup", [pytest.param(EXISTING, id="empty", marks=pytest.mark.long), pytest.param(COPIED, id="copied")])
def test_replaced_django_db_setup_ends_the_run(
    live: DjangoProject, developer: DeveloperDatabase, setup: str, workers: str
) -> None:
    live.file("conftest.py", setup)
    ran = live.run_django(workers)
    developer.assert_untouched()
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert "replaces django_db_setup; delete it, or" in ran.errors[0]
    assert "conftest.py:" in ran.errors[0]


@pytest.mark.long
def test_replaced_setup_writes_without_guard(live: DjangoProject, developer: DeveloperDatabase) -> None:
    """Proves that the tests above can fail: without the guard the run writes."""
    unblocked = "def test_note(number, django_db_blocker):\n  with django_db_blocker.unblock():"
    notes = NOTES.replace("@pytest.mark.django_db(transaction=True)\n", "").replace("def test_note(number):", unblocked)
    live.file("test_notes.py", notes)
    live.run_django("--pgdibs-guard=off").assert_passed(10)
    developer.assert_written()


@WORKERS
def test_off_run_error_names_the_option(live: DjangoProject, developer: DeveloperDatabase, workers: str) -> None:
    ran = live.run_django(workers, "--pgdibs=off")
    developer.assert_untouched()
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert ran.errors[0].endswith(": --pgdibs=off means that there is no database in this run; leave the option out")
    assert "pgdibs_allow" not in ran.output


@WORKERS
def test_query_during_app_loading_ends_the_run(live: DjangoProject, developer: DeveloperDatabase, workers: str) -> None:
    live.file(
        "notes/apps.py",
        """
import django.apps
class Notes(django.apps.AppConfig):
    name = "notes"
    def ready(self):
        from django.db import connection
        connection.ensure_connection()
""",
    )
    ran = live.run_django(workers)
    developer.assert_stopped(
        ran, "by Django's alias default opened at notes/apps.py:7", 'DATABASES["default"] of the settings names'
    )


@pytest.mark.long
def test_alias_changed_by_a_test_ends_the_run(live: DjangoProject, developer: DeveloperDatabase) -> None:
    live.file(
        "test_notes.py",
        f"""
import pytest
from django.db import connection
@pytest.mark.django_db(transaction=True)
def test_it():
    connection.close()
    connection.settings_dict.update(NAME="{developer.name}", HOST="127.0.0.1", PORT="{developer.server.port}", USER="postgres")
    connection.ensure_connection()
""",
    )
    developer.assert_stopped(live.run_django(), "by Django's alias default opened at test_notes.py:8")


@pytest.mark.long
def test_all_aliases_work_with_guard(project: DjangoProject) -> None:
    project.file(
        "test_it.py",
        """
import pytest
from notes.models import Note
from trail.models import Entry
@pytest.mark.parametrize("number", range(4))
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_it(number):
    Note.objects.create(body="x")
    assert Note.objects.using("replica").count() >= 1
    Entry.objects.create(body="x")
""",
    )
    project.run_django("-n2").assert_passed(4)


@pytest.mark.long
def test_options_that_override_the_name_are_named(live: DjangoProject, developer: DeveloperDatabase) -> None:
    options = f'{{"dbname": "{developer.name}"}}'
    live.file("settings.py", f"{live.text('settings.py')}\nDATABASES['audit']['OPTIONS'] = {options}\n")
    live.settings["pgdibs_build"] = "true"
    live.file("test_notes.py", "import pytest\n@pytest.mark.django_db\ndef test_it():\n    pass\n")
    ran = live.run_django()
    # Django uses the host and port that pgdibs has set, and the name in OPTIONS.
    developer.assert_ended(ran, f"by Django's alias audit to database {developer.name} on", 'OPTIONS of DATABASES["audit"]')
    assert "pgdibs: Django's alias `audit` does not connect to" in ran.output
