"""Builds of templates by `migrate`: once, again after changes, and the options of pytest-django."""

from __future__ import annotations

import re

import pytest
from django_projects import PLUGINS, DjangoProject
from projects import eventually
from test_faults import WAITS

COUNTS = """
import pytest
from notes.models import Note
@pytest.mark.django_db(transaction=True)
def test_it():
    assert Note.objects.count() == {count}
    Note.objects.create(body="left behind")
"""


@pytest.mark.long
def test_reuse_db_reuses_schema_without_data(project: DjangoProject) -> None:
    project.file("test_it.py", COUNTS.format(count=1))
    for _ in range(2):
        project.run_django("--reuse-db").assert_passed(1)
    assert project.builds == ["audit", "default"]


@pytest.mark.long
def test_create_db_builds_once_for_all_workers(project: DjangoProject) -> None:
    project.file("test_it.py", COUNTS.format(count=1))
    project.run_django("-n2").assert_passed(1)
    project.run_django("-n2", "--create-db").assert_passed(1)
    assert project.builds == ["audit", "audit", "default", "default"]
    # Later runs use the new template.
    project.run_django("-n2", "--reuse-db").assert_passed(1)
    assert project.builds == ["audit", "audit", "default", "default"]


@pytest.mark.long
def test_create_db_with_template_in_use_is_refused(project: DjangoProject) -> None:
    project.file("test_it.py", WAITS)
    other = project.start("-n0", plugins=PLUGINS)
    eventually(lambda: project.text("started-0"))
    ran = project.run_django("--create-db")
    assert (ran.counted("passed"), "in use" in ran.output or "template_in_use" in ran.output) == (0, True), ran.output
    assert "Traceback" not in ran.output
    project.file("go", "")
    project.finish(other).assert_passed(4)


def test_options_without_effect_are_refused(project: DjangoProject) -> None:
    project.file("test_it.py", COUNTS.format(count=1))
    for option, hint in (("--create-db", "`pgdibs template drop`"), ("--no-migrations", "leave the option out")):
        project.settings["pgdibs_fingerprint"] = ""
        ran = project.run_django(option)
        assert ran.status == 4
        assert f"pgdibs: {option} has no effect here" in ran.output
        assert hint in ran.output


@pytest.mark.long
def test_no_migrations_creates_tables_of_models(project: DjangoProject) -> None:
    project.file("test_it.py", COUNTS.format(count=0))
    project.run_django("-n2", "--no-migrations").assert_passed(1)
    assert project.builds == []
    # The models have changed, but no file of the globs.
    project.file("notes/models.py", project.text("notes/models.py") + "    stars = models.IntegerField(default=5)\n")
    project.file("test_it.py", COUNTS.format(count=0) + "    assert Note.objects.get().stars == 5\n")
    project.run_django("--no-migrations").assert_passed(1)
    # With migrations it is another template; the first one still exists.
    project.file("notes/models.py", project.text("notes/models.py").replace("    stars = models.IntegerField(default=5)\n", ""))
    project.file("test_it.py", COUNTS.format(count=1))
    project.run_django().assert_passed(1)
    assert project.builds == ["audit", "default"]


@pytest.mark.long
def test_migration_of_installed_package_builds_again(project: DjangoProject) -> None:
    project.settings["pgdibs_fingerprint"] = "notes/migrations/*.py"
    project.file("test_it.py", COUNTS.format(count=1))
    project.run_django().assert_passed(1)
    # `trail` stands for an installed package, which the globs do not name.
    project.file(
        "trail/migrations/0003_more.py",
        "from django.db import migrations, models\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('trail', '0002_data')]\n"
        "    operations = [migrations.AddField('Entry', 'at', models.IntegerField(default=7))]\n",
    )
    project.file("trail/models.py", project.text("trail/models.py") + "    at = models.IntegerField(default=7)\n")
    project.file(
        "test_it.py",
        "import pytest\nfrom trail.models import Entry\n"
        "@pytest.mark.django_db(databases={'audit'})\ndef test_it(): assert Entry.objects.get().at == 7\n",
    )
    ran = project.run_django()
    ran.assert_passed(1)
    assert project.builds == ["audit", "audit", "default", "default"]
    assert re.search(r", template built in \d+\.\d\d s \(migrations of trail changed\), ", ran.output), ran.output


@pytest.mark.long
def test_failed_migration_is_reported_once(project: DjangoProject) -> None:
    project.file("test_it.py", COUNTS.format(count=1))
    working = project.text("notes/migrations/0002_data.py")
    project.file(
        "notes/migrations/0002_data.py", working.replace("    alias = ", "    raise ValueError('no such thing')\n    alias = ")
    )
    ran = project.run_django("-n2")
    assert ran.status == 4, ran.output
    assert ran.output.count("ValueError: no such thing") == 1
    project.file("notes/migrations/0002_data.py", working)
    project.run_django("-n2").assert_passed(1)


@pytest.mark.long
def test_migration_cannot_reach_another_alias(project: DjangoProject) -> None:
    project.file("test_it.py", COUNTS.format(count=1))
    data = project.text("trail/migrations/0002_data.py")
    project.file("trail/migrations/0002_data.py", data.replace(".using(alias)", '.using("default")'))
    ran = project.run_django()
    assert ran.counted("passed") == 0
    assert "only-test-processes-have-a-database" in ran.output or "Connection refused" in ran.output, ran.output


@pytest.mark.long
def test_build_hook_of_project_precedes_migrate(project: DjangoProject) -> None:
    project.file(
        "conftest.py",
        "import pathlib\nfrom django.core.management import call_command\n"
        "def pytest_pgdibs_build_template(url, alias, config):\n"
        "    pathlib.Path('own.txt').open('a').write(alias + '\\n')\n",
    )
    project.file("test_it.py", COUNTS.format(count=1))
    project.run_django().assert_passed(1)
    assert sorted(project.text("own.txt").split()) == ["audit", "default"]
    assert project.builds == ["audit", "default"]
