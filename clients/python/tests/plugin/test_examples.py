"""The small examples, examples/fastapi and examples/django, pass with two workers as they stand."""

from __future__ import annotations

import shutil

import pytest
from projects import REPOSITORY, Project


@pytest.mark.parametrize(
    ("example", "plugins"), [("fastapi", []), ("django", ["-p", "pytest_django.plugin"])], ids=["fastapi", "django"]
)
def test_small_example_passes_with_two_workers(project: Project, example: str, plugins: list[str]) -> None:
    ignored = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(REPOSITORY / "examples" / example, project.pytester.path, dirs_exist_ok=True, ignore=ignored)
    project.environment["PGDIBS_POOL"] = project.pool
    ran = project.run_as_written("-n2", "--dist=each", *plugins)
    ran.assert_passed(6)
    assert "2 databases leased by 2 workers, template built" in ran.output
