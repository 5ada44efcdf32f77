"""Runs the projects whose files are the blocks of docs/python/fastapi.md and of the top of docs/python/pytest.md."""

from __future__ import annotations

import pytest
from projects import Project, blocks_of

PAGE = "python/fastapi.md"


@pytest.mark.long
@pytest.mark.parametrize(("page", "migrations"), [(PAGE, "alembic"), ("python/pytest.md", "migrations")])
def test_lines_at_the_top_of_page_migrate_with_alembic(project: Project, page: str, migrations: str) -> None:
    files = blocks_of("python/sqlalchemy.md", "Alembic")
    del files["pytest.ini"]
    files = {
        name.replace("alembic/", f"{migrations}/"): text.replace("/alembic", f"/{migrations}") for name, text in files.items()
    }
    files |= {**blocks_of(page, ""), "shop/models/notes.py": ""}
    for name, text in files.items():
        project.file(name, text)
    project.environment.update(PGDIBS_POOL=project.pool, DATABASE_URL="postgresql+psycopg://real.example/real")
    project.run_as_written("-n2").assert_passed(2)


@pytest.mark.long
def test_async_application_of_page_passes_with_two_workers(project: Project) -> None:
    for name, text in blocks_of(PAGE, "An async application").items():
        project.file(name, text)
    project.environment["PGDIBS_POOL"] = project.pool
    project.run_as_written("-n2", "-p", "pytest_asyncio.plugin").assert_passed(4)
