"""Runs the project whose files are the blocks of docs/python/per-test.md; tests/django runs the block about Django."""

from __future__ import annotations

from projects import Project, all_blocks_of


def test_each_test_of_page_has_clean_database(project: Project) -> None:
    for name, text in all_blocks_of("python/per-test.md").items():
        if not name.startswith("tests/"):
            project.file(name, text)
    project.environment["PGDIBS_POOL"] = project.pool
    project.run_as_written("-n0", "-p", "pytest_asyncio.plugin").assert_passed(2 + 2 + 2 + 2 + 2 + 1)
