"""A project's own `django_db_setup`: one that replaces the fixture stops the run before its body, one that requests it works.

The bodies are those of public projects, and the recipes those of pytest-django's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from developers import DeveloperDatabase
from django_projects import DjangoProject
from projects import Ran

TESTS = """
import pytest
from django.test import TestCase
from notes.models import Note
@pytest.mark.parametrize("number", range(20))
@pytest.mark.django_db(transaction=True)
def test_marked(number): Note.objects.create(body="written by a test")
def test_fixture(transactional_db): Note.objects.all().delete()
class TestUnit(TestCase):
    def test_unit(self): Note.objects.create(body="written by a test")
"""
HEAD = """\
import pytest
from django.conf import settings
from django.core.management import call_command


@pytest.fixture(scope="session")
"""
REPLACES = {
    "no body": "def django_db_setup():\n    pass\n",
    "an existing database": """\
def django_db_setup():
    settings.DATABASES["default"] = {{
        "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": "{port}", "USER": "postgres",
        "NAME": "shop_dev", "ATOMIC_REQUESTS": False,
    }}
""",
    "an existing database, migrated": """\
def django_db_setup(django_db_blocker):
    with django_db_blocker.unblock():
        call_command("migrate", fake_initial=True, verbosity=0)
    yield
""",
    "setup_databases": """\
def django_db_setup(django_test_environment, django_db_blocker):
    from django.test.utils import setup_databases
    with django_db_blocker.unblock():
        setup_databases(verbosity=0, interactive=False, aliases=["default"])
""",
}


@pytest.fixture
def live(project: DjangoProject, developer: DeveloperDatabase) -> DjangoProject:
    """A project whose settings lead to the developer's own database."""
    port = developer.server.port
    settings = project.text("settings.py").replace('"PORT": "1", "USER": "dev"', f'"PORT": "{port}", "USER": "postgres"')
    project.file("settings.py", settings.replace('"dev"', '"shop_dev"').replace('"dev_audit"', '"shop_dev"'))
    return project


def assert_stopped(ran: Ran, *places: str) -> None:
    """Assert that the run ended with one sentence, which names exactly these places."""
    (line,) = ran.errors
    replace = "replaces" if len(places) == 1 else "replace"
    assert line.startswith(f"ERROR: pgdibs: {' and '.join(places)} {replace} django_db_setup; delete it, or request ours "), line
    assert "(def django_db_setup(django_db_setup): ...)" in line
    assert (ran.status, ran.counted("passed"), ran.counted("failed"), ran.counted("error")) == (4, 0, 0, 0)
    assert not re.search(r"Traceback|INTERNALERROR|AssertionError|SystemExit|permission denied|crashed worker", ran.output)


def cases() -> Iterator[Any]:
    """Each body, serial and with workers; the two worst ones are not long."""
    for body in REPLACES:
        for workers in ("-n0", "-n2"):
            is_short = (body, workers) in (("an existing database", "-n2"), ("an existing database, migrated", "-n0"))
            yield pytest.param(body, workers, marks=() if is_short else pytest.mark.long)


@pytest.mark.parametrize(("body", "workers"), list(cases()))
def test_replacement_stops_run_before_any_write(
    live: DjangoProject, developer: DeveloperDatabase, body: str, workers: str
) -> None:
    live.file("tests/conftest.py", HEAD + REPLACES[body].format(port=developer.server.port))
    live.file("tests/test_it.py", TESTS)
    ran = live.run_django(workers)
    developer.assert_untouched()
    assert_stopped(ran, "tests/conftest.py:6")
    assert "tests/test_it.py::TestUnit::test_unit and 21 more would use a database that pgdibs did not lease" in ran.output


@pytest.mark.long
@pytest.mark.parametrize("flag", ["--reuse-db", "--create-db", "--no-migrations"])
def test_replacement_stops_run_with_database_options(live: DjangoProject, developer: DeveloperDatabase, flag: str) -> None:
    live.file("tests/conftest.py", HEAD + REPLACES["an existing database, migrated"])
    live.file("tests/test_it.py", TESTS)
    ran = live.run_django("-n2", flag)
    developer.assert_untouched()
    assert_stopped(ran, "tests/conftest.py:6")


@pytest.mark.long
def test_replacement_with_setup_databases_stops_before_its_body(project: DjangoProject) -> None:
    """With `pgdibs_env` the settings name the lease, whose login cannot create a database."""
    project.settings.update(pgdibs_env="DATABASE_URL", pgdibs_aliases=f"audit={project.pool}_audit")
    read = "from urllib.parse import urlsplit\nurl = urlsplit(__import__('os').environ['DATABASE_URL'])\n"
    part = "HOST=url.hostname, PORT=url.port, USER=url.username, PASSWORD=url.password, NAME=url.path[1:]"
    project.file("settings.py", project.text("settings.py") + f"{read}DATABASES['default'].update({part})\n")
    project.file("conftest.py", HEAD + REPLACES["setup_databases"])
    project.file("test_it.py", TESTS)
    assert_stopped(project.run_django("-n2"), "conftest.py:6")


WAYS = {
    "marker": "@pytest.mark.django_db\ndef test_it(): pass\n",
    "fixture": "@pytest.fixture\ndef note(admin_user): pass\ndef test_it(note): pass\n",
    "server": "def test_it(live_server): pass\n",
    "unittest": "from django.test import TestCase\nclass TestIt(TestCase):\n    def test_it(self): pass\n",
    "simple": "from django.test import SimpleTestCase\nclass TestIt(SimpleTestCase):\n    databases = {'default'}\n"
    "    def test_it(self): pass\n",
    "readonly": "@pytest.fixture\ndef read_only(request, django_db_setup, django_db_blocker):\n"
    "    django_db_blocker.unblock()\n    request.addfinalizer(django_db_blocker.restore)\ndef test_it(read_only): pass\n",
    "setup": "@pytest.mark.usefixtures('django_db_setup')\ndef test_it(): pass\n",
}
OVERRIDE = "@pytest.fixture(scope='session')\ndef django_db_setup(): raise Exception('the body ran')\n"


@pytest.mark.long
def test_replacement_is_found_for_each_database_use(project: DjangoProject) -> None:
    for name, test in WAYS.items():
        project.file(f"{name}/conftest.py", f"import pytest\n{OVERRIDE}")
        project.file(f"{name}/test_{name}.py", f"import pytest\n{test}")
    project.file("module/test_module.py", f"import pytest\n\n\n{OVERRIDE}{WAYS['marker']}")
    project.file(
        "named/test_named.py",
        "import pytest\nclass TestIt:\n    @pytest.fixture(name='django_db_setup')\n    def own(self): pass\n"
        "    def test_it(self, db): pass\n",
    )
    project.file(
        "opens/conftest.py",
        "import pytest\n@pytest.fixture(scope='session', autouse=True)\n"
        "def django_db_setup(django_db_blocker): raise Exception('the body ran')\n",
    )
    project.file("opens/test_opens.py", "def test_it(): pass\n")
    project.file("chain/conftest.py", f"import pytest\n{OVERRIDE}")
    project.file("chain/inner/conftest.py", "import pytest\n@pytest.fixture\ndef django_db_setup(django_db_setup): pass\n")
    project.file("chain/inner/test_chain.py", f"import pytest\n{WAYS['marker']}")
    ran = project.run_django("-n0", "-p", "no:randomly")
    (line,) = ran.errors
    places = {f"{name}/conftest.py:2" for name in (*WAYS, "opens", "chain")} | {
        "module/test_module.py:4",
        "named/test_named.py:3",
    }
    assert set(re.findall(r"[\w/]+\.py:\d+", line)) == places, line
    assert ran.status == 4
    assert "the body ran" not in ran.output


@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_database_requested_within_test_stops_session(live: DjangoProject, developer: DeveloperDatabase, workers: str) -> None:
    live.file("conftest.py", HEAD + REPLACES["an existing database, migrated"])
    live.file(
        "test_it.py",
        "import pytest\nfrom notes.models import Note\n@pytest.mark.parametrize('number', range(300))\n"
        "def test_it(number, request):\n    request.getfixturevalue('transactional_db')\n    Note.objects.create(body='x')\n",
    )
    ran = live.run_django(workers)
    developer.assert_untouched()
    assert ran.status in (1, 2)
    assert (ran.counted("passed"), ran.counted("failed") <= 2) == (0, True), ran.output
    assert "pgdibs: conftest.py:6 replaces django_db_setup; delete it, or request ours" in ran.output


@pytest.mark.long
@pytest.mark.parametrize("way", ["-p", pytest.param("pytest_plugins", marks=pytest.mark.long)])
def test_replacement_in_a_plugin_stops_run(project: DjangoProject, way: str) -> None:
    place, directory = "loading.py", project.pytester.path
    if way == "pytest_plugins":
        project.file("conftest.py", "pytest_plugins = ['loading']\n")
    else:  # like an installed plugin
        place, directory = "site-packages/loading.py", directory / "site-packages"
    arguments = ["-p", "loading"] if way == "-p" else []
    project.environment["PYTHONPATH"] = str(directory)
    project.file(place, f"import pytest\n{OVERRIDE}")
    project.file("test_it.py", f"import pytest\n{WAYS['marker']}")
    place_named = f"{directory}/loading.py:2 (-p no:loading leaves it out)" if way == "-p" else "loading.py:2"
    assert_stopped(project.run_django("-n2", *arguments), place_named)
    project.file(place, LOADS)
    project.file("test_it.py", SEES_LOADED)
    project.run_django("-n2", *arguments).assert_passed(1)


LOADS = """
import pytest
@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    from notes.models import Note
    with django_db_blocker.unblock():
        Note.objects.create(body="loaded")
"""
SEES_LOADED = """
import pytest
from django.db import connection
from notes.models import Note
@pytest.mark.django_db
def test_it():
    assert sorted(note.body for note in Note.objects.all()) == ["from the migration", "loaded"]
"""
REQUESTS = {
    "by an argument": LOADS,
    "while it runs": LOADS.replace("(django_db_setup,", "(request,").replace(
        "    from notes", "    request.getfixturevalue('django_db_setup')\n    from notes"
    ),
    "through another": LOADS.replace("(django_db_setup,", "(made,").replace(
        "import pytest\n", "import pytest\n@pytest.fixture(scope='session')\ndef made(django_db_setup): pass\n"
    ),
    "of one function": LOADS.replace("(scope='session')", ""),
}


@pytest.mark.parametrize(
    "request_", [pytest.param(name, marks=() if name == "by an argument" else pytest.mark.long) for name in REQUESTS]
)
def test_override_that_requests_fixture_loads_into_lease(
    live: DjangoProject, developer: DeveloperDatabase, request_: str
) -> None:
    live.file("conftest.py", REQUESTS[request_])
    live.file("test_it.py", SEES_LOADED)
    live.run_django("-n0" if request_ == "through another" else "-n1").assert_passed(1)
    developer.assert_untouched()


@pytest.mark.long
def test_replacement_without_database_tests_is_accepted(live: DjangoProject, developer: DeveloperDatabase) -> None:
    live.file("unit/conftest.py", f"import pytest\n{OVERRIDE}")
    live.file("unit/test_unit.py", "def test_one(): pass\ndef test_two(tmp_path, settings): pass\n")
    live.file("quick/conftest.py", "import pytest\n@pytest.fixture(autouse=True)\ndef django_db_setup(): pass\n")
    live.file(
        "quick/test_quick.py",
        "import pytest\nfrom django.test import SimpleTestCase\nfrom notes.models import Note\n"
        "class TestIt(SimpleTestCase):\n    def test_one(self): pass\n"
        "def test_two():\n    with pytest.raises(RuntimeError, match='Database access not allowed'): Note.objects.count()\n",
    )
    live.file("deselected/conftest.py", f"import pytest\n{OVERRIDE}")
    live.file("deselected/test_deselected.py", "def test_three(db): pass\ndef test_four(): pass\n")
    live.file("data/test_data.py", SEES_LOADED.replace(', "loaded"', ""))
    for workers in ("-n0", "-n2"):
        live.run_django(workers, "-k", "not test_three").assert_passed(6)
    developer.assert_untouched()


RECIPES = """
import pytest
from django.conf import settings
def pytest_configure():
    settings.DATABASES["default"]["TEST"]["NAME"] = "shop_dev"
@pytest.fixture(scope="session")
def django_db_modify_db_settings():
    # Replaces the entry, as in "Using a template database for tests" and many conftest files.
    settings.DATABASES["default"] = {**settings.DATABASES["default"], "PORT": "%s", "NAME": "shop_dev"}
@pytest.fixture(scope="session")
def django_db_createdb(): return False
@pytest.fixture(scope="session")
def django_db_keepdb(): return True
@pytest.fixture(scope="session")
def django_db_use_migrations(): return False
"""
FROM_THREADS = """
import threading, pytest
from django.db import connection
from notes.models import Note
from pgdibs.plugin.databases import databases_of
def write():
    Note.objects.create(body="from a thread")
    connection.close()
@pytest.mark.django_db(transaction=True)
def test_it(pytestconfig):
    leased = databases_of(pytestconfig).leases["default"].database
    seen = []
    def read():
        with connection.cursor() as cursor:
            cursor.execute("select current_database()")
            seen.append(cursor.fetchone()[0])
        connection.close()
    read()
    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert seen == [leased, leased]
"""


@pytest.mark.long
@pytest.mark.parametrize("leased", ["when a test asks", "before conftest.py", "by a fixture"])
def test_overrides_of_other_fixtures_work_in_threads(live: DjangoProject, developer: DeveloperDatabase, leased: str) -> None:
    if leased == "before conftest.py":
        live.settings.update(pgdibs_env="DATABASE_URL", pgdibs_aliases=f"audit={live.pool}_audit")
    early = "@pytest.fixture(scope='session', autouse=True)\ndef early(pgdibs_lease): pass\n" if leased == "by a fixture" else ""
    live.file("conftest.py", RECIPES % developer.server.port + early)
    live.file("test_it.py", FROM_THREADS)
    live.run_django("-n2").assert_passed(1)
    developer.assert_untouched()
