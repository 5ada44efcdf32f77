"""The small examples, examples/fastapi and examples/django, pass as they stand."""

from __future__ import annotations

import shutil

import pytest
from projects import REPOSITORY, Project


@pytest.mark.parametrize(
    ("example", "plugins", "workers"),
    [
        ("fastapi", [], "-n0"),
        pytest.param("fastapi", [], "-n2", marks=pytest.mark.long),
        pytest.param("django", ["-p", "pytest_django.plugin"], "-n2", marks=pytest.mark.long),
    ],
)
def test_small_example_passes(project: Project, example: str, plugins: list[str], workers: str) -> None:
    ignored = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(REPOSITORY / "examples" / example, project.pytester.path, dirs_exist_ok=True, ignore=ignored)
    project.environment["PGDIBS_POOL"] = project.pool
    ran = project.run_as_written(workers, *(["--dist=each"] if workers == "-n2" else []), *plugins)
    ran.assert_passed(6 if workers == "-n2" else 3)
    assert ("2 databases leased by 2 workers" if workers == "-n2" else "1 database leased") + ", template built" in ran.output
