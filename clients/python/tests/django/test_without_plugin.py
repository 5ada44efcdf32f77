"""Without the plugin: pytest-django, or Django's own runner, uses the databases of `pgdibs run` by name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django_projects import DjangoProject
from projects import REPOSITORY, Ran

PROGRAM = os.environ.get("PGDIBS_BIN", f"{os.environ.get('CARGO_TARGET_DIR', REPOSITORY / 'target')}/debug/pgdibs")
SETTINGS = """
import os
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "notes"]
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "dev"),
        "HOST": os.environ.get("PGHOST", ""),
        "PORT": os.environ.get("PGPORT", ""),
        "USER": os.environ.get("PGUSER", ""),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "TEST": {{"NAME": {test_name}}},
    }}
}}
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""
TESTS = """
import pathlib
from django.db import connection
from django.test import TransactionTestCase
from notes.models import Note
class Tests(TransactionTestCase):
    serialized_rollback = True
    def check_database(self):
        with connection.cursor() as cursor:
            cursor.execute("select current_database()")
            with pathlib.Path("where.txt").open("a") as lines:
                lines.write(cursor.fetchone()[0] + "\\n")
        assert Note.objects.get().body == "from the migration"
        Note.objects.create(body="left behind")
    def test_a(self): self.check_database()
    def test_b(self): self.check_database()
    def test_c(self): self.check_database()
    def test_d(self): self.check_database()
"""


@pytest.fixture
def plain(project: DjangoProject) -> DjangoProject:
    """The project with one alias and no settings of pgdibs; the command line builds its template."""
    project.settings = {"DJANGO_SETTINGS_MODULE": "settings"}
    project.file("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = settings\npython_files = tests.py\n")
    project.file("settings.py", SETTINGS.format(test_name=repr(project.pool)))
    project.file("manage.py", MANAGE)
    project.file("notes/tests.py", TESTS)
    built = run(project, "template", "build", project.pool, "--fingerprint", "1", "--", sys.executable, "manage.py", "migrate")
    assert built.status == 0, built.output
    return project


def run(project: DjangoProject, *arguments: str) -> Ran:
    """Run a command of `pgdibs` in the project."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PGDIBS_", "PYTEST_", "PG"))}
    environment.update(PGDIBS_URL=project.daemon.url, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=project.pytester.path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    print(done.stdout)
    return Ran(done.returncode, done.stdout)


PYTEST = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "pytest_django.plugin", "-p", "no:cacheprovider"]


def test_pytest_django_uses_databases_of_pgdibs_run(plain: DjangoProject) -> None:
    for _ in range(2):
        ran = run(plain, "run", "--pool", plain.pool, "--workers", "2", "--", *PYTEST, "-n2", "--dist=each", "--reuse-db")
        ran.assert_passed(8)
    assert set(plain.text("where.txt").split()) == {f"{plain.pool}_gw0", f"{plain.pool}_gw1"}
    assert plain.builds == ["default"]


@pytest.mark.long
def test_django_runner_with_keepdb_uses_lease(plain: DjangoProject) -> None:
    plain.file("settings.py", SETTINGS.format(test_name="os.environ.get('PGDATABASE')"))
    for _ in range(2):
        ran = run(plain, "run", "--pool", plain.pool, "--", sys.executable, "manage.py", "test", "--keepdb", "--noinput")
        assert ran.status == 0, ran.output
        assert "Ran 4 tests" in ran.output
    assert {name.rpartition("_")[0] for name in plain.text("where.txt").split()} == {plain.pool}
    assert plain.builds == ["default"]


@pytest.mark.long
def test_django_parallel_runner_cannot_create_databases(plain: DjangoProject) -> None:
    """docs/python/django.md says that this is not supported."""
    ran = run(
        plain, "run", "--pool", plain.pool, "--workers", "2", "--",
        sys.executable, "manage.py", "test", "--parallel", "2", "--keepdb", "--noinput",
    )  # fmt: skip
    assert ran.status != 0
    assert "permission denied to create database" in ran.output
