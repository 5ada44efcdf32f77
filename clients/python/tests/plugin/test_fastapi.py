"""Runs the application whose files are the blocks of docs/python/fastapi.md."""

from __future__ import annotations

import pytest
from projects import Project, blocks_of


@pytest.mark.long
def test_async_application_of_page_passes_with_two_workers(project: Project) -> None:
    for name, text in blocks_of("python/fastapi.md", "An async application").items():
        project.file(name, text)
    project.environment["PGDIBS_POOL"] = project.pool
    project.run_as_written("-n2", "-p", "pytest_asyncio.plugin").assert_passed(4)
