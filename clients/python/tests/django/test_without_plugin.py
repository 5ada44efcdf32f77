"""Without the plugin, by the commands of docs/python/django.md: pytest-django and Django's own runner on `pgdibs run`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django_projects import DjangoProject
from projects import REPOSITORY, Ran, blocks_of, shell_blocks_of

PROGRAM = os.environ.get("PGDIBS_BIN", f"{os.environ.get('CARGO_TARGET_DIR', REPOSITORY / 'target')}/debug/pgdibs")
HEADING = "Without the plugin"
SETTINGS = """
import os
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "notes"]
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""
BUILD = "pgdibs template build myapp_test --fingerprint 1 -- python manage.py migrate"
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
    """The project with one alias, no settings of pgdibs, and the settings of the page."""
    project.file("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = settings\npython_files = tests.py\n")
    databases = blocks_of("python/django.md", HEADING)["settings.py"]
    project.file("settings.py", SETTINGS + databases.replace("myapp_test", project.pool))
    project.file("manage.py", MANAGE)
    project.file("notes/tests.py", TESTS)
    (project.pytester.mkdir("bin") / "pgdibs").symlink_to(Path(PROGRAM).resolve())
    return project


def run(project: DjangoProject, script: str) -> Ran:
    """Run commands of the page in the project, with its pool for theirs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PGDIBS_", "PYTEST_", "PG"))}
    programs = [str(project.pytester.path / "bin"), os.path.dirname(sys.executable), environment["PATH"]]
    environment.update(
        PATH=os.pathsep.join(programs),
        PGDIBS_URL=project.daemon.url,
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        PYTEST_ADDOPTS="-p xdist -p pytest_django.plugin -p no:cacheprovider --dist=each",
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("myapp_test", project.pool)],
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


def test_pytest_django_uses_databases_of_pgdibs_run(plain: DjangoProject) -> None:
    with_workers, _one_process = shell_blocks_of("python/django.md", HEADING)
    for _ in range(2):
        run(plain, with_workers).assert_passed(8)
    assert set(plain.text("where.txt").split()) == {f"{plain.pool}_gw0", f"{plain.pool}_gw1"}
    assert plain.builds == ["default"]


@pytest.mark.long
def test_django_runner_with_keepdb_uses_lease(plain: DjangoProject) -> None:
    by_name = f'"TEST": {{"NAME": "{plain.pool}"}}'
    settings = plain.text("settings.py")
    assert by_name in settings
    plain.file("settings.py", settings.replace(by_name, '"TEST": {"NAME": os.environ.get("PGDATABASE")}'))
    _with_workers, one_process = shell_blocks_of("python/django.md", HEADING)
    assert run(plain, BUILD).status == 0
    for _ in range(2):
        ran = run(plain, one_process)
        assert ran.status == 0, ran.output
        assert "Ran 4 tests" in ran.output
    assert {name.rpartition("_")[0] for name in plain.text("where.txt").split()} == {plain.pool}
    assert plain.builds == ["default"]


@pytest.mark.long
def test_django_parallel_runner_cannot_create_databases(plain: DjangoProject) -> None:
    """The page says that this is not supported."""
    assert run(plain, BUILD).status == 0
    ran = run(plain, "pgdibs run --pool myapp_test --workers 2 -- python manage.py test --parallel 2 --keepdb --noinput")
    assert ran.status != 0
    assert "permission denied to create database" in ran.output
