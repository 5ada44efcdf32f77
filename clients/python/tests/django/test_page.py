"""The lines at the top of docs/python/django.md are all that a project needs, also for the Django block of per-test.md."""

from __future__ import annotations

import pytest
from django_projects import DjangoProject
from projects import all_blocks_of, blocks_of

TESTS = """
import pytest
from notes.models import Note
from trail.models import Entry
@pytest.mark.django_db(databases={"default", "audit"})
@pytest.mark.parametrize("number", range(4))
def test_rows_of_migrations_are_there(number):
    assert Note.objects.count() == Entry.objects.count() == 1
"""


@pytest.mark.long
def test_lines_of_page_lease_every_alias(project: DjangoProject) -> None:
    for name, text in blocks_of("python/django.md", "").items():
        project.file(name, text)
    project.file("manage.py", "")
    project.file("myapp/settings.py", project.text("settings.py"))
    project.file("test_it.py", TESTS)
    name = "tests/test_notes_of_django.py"
    project.file(name, all_blocks_of("python/per-test.md")[name])
    project.environment["PGDIBS_POOL"] = project.pool
    ran = project.run_as_written("-n2", "-p", "pytest_django.plugin")
    assert f"building the template of pool {project.pool} with `migrate`\n" in ran.output
    ran.assert_passed(4 + 2)
    assert "4 databases leased by 2 workers" in ran.output
    assert project.builds == ["audit", "default"]
