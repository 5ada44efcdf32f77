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
import multiprocessing, os, sys
if __name__ == "__main__":
    from django.core.management import execute_from_command_line
    multiprocessing.set_start_method(os.environ.get("START_METHOD", "fork"))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    execute_from_command_line(sys.argv)
"""
TESTS = """
import pathlib
from django.db import connection
from django.test import TransactionTestCase
from notes.models import Note
class Check:
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
class Tests(Check, TransactionTestCase):
    pass
class More(Check, TransactionTestCase):
    pass
"""


@pytest.fixture
def plain(project: DjangoProject) -> DjangoProject:
    """The project with one alias, no settings of pgdibs, and the settings of the page."""
    project.file("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = settings\npython_files = tests.py\n")
    files = blocks_of("python/django.md", HEADING)
    project.file("settings.py", SETTINGS + files["settings.py"].replace("myapp_test", project.pool))
    project.file("leased_database/base.py", files["leased_database/base.py"])
    project.file("leased_database/__init__.py", "")
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


def test_django_runner_uses_a_lease_in_each_process(plain: DjangoProject) -> None:
    """Relatives: django/django#14614 (a backend that cannot clone), #6884 (`--keepdb` keeps clones without new migrations)."""
    by_django, _by_pytest = shell_blocks_of("python/django.md", HEADING)
    ran = run(plain, by_django)
    assert (ran.status, "Ran 4 tests" in ran.output, "Warning" in ran.output) == (0, True, False), ran.output
    assert sorted(plain.text("where.txt").split()) == sorted([f"{plain.pool}_gw0", f"{plain.pool}_gw1"] * 2)
    # The first lines of the page have built the template; `migrate` finds nothing to do in the clones.
    assert plain.builds == ["default"]


@pytest.mark.long
def test_pytest_django_without_plugin_uses_leases(plain: DjangoProject) -> None:
    by_django, by_pytest = shell_blocks_of("python/django.md", HEADING)
    build, _, _run = by_django.partition("pgdibs run")
    for _ in range(2):
        run(plain, build + by_pytest).assert_passed(8)
    assert set(plain.text("where.txt").split()) == {f"{plain.pool}_gw0", f"{plain.pool}_gw1"}
    assert plain.builds == ["default"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "start_method"),
    [("", "fork"), ("--keepdb", "fork"), ("--keepdb --parallel 2", "fork"), ("--noinput --parallel 2", "spawn")],
)
def test_options_of_django_runner(plain: DjangoProject, options: str, start_method: str) -> None:
    by_django, _by_pytest = shell_blocks_of("python/django.md", HEADING)
    for _ in range(2):
        ran = run(plain, f"export START_METHOD={start_method}\n{by_django.replace('--parallel 2', options)}")
        assert (ran.status, "Ran 4 tests" in ran.output) == (0, True), ran.output
    # A process that starts slowly may find no tests left.
    assert set(plain.text("where.txt").split()) <= {f"{plain.pool}_gw{n}" for n in ((0, 1) if "parallel" in options else (0,))}
    assert plain.builds == ["default"]


@pytest.mark.long
def test_more_processes_than_leases_stop_the_run(plain: DjangoProject) -> None:
    by_django, _by_pytest = shell_blocks_of("python/django.md", HEADING)
    ran = run(plain, by_django.replace("--workers 2", "--workers 1"))
    assert ran.status != 0
    assert f'permission denied for database "{plain.pool}_gw1"' in ran.output.splitlines()[-2], ran.output
    assert plain.text("where.txt") == ""
