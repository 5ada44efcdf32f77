"""Runs the projects whose files are the blocks of docs/python/sqlalchemy.md."""

from __future__ import annotations

import re

import pytest
from projects import Project, blocks_of


def blocks(heading: str) -> dict[str, str]:
    """The files under a heading of the page, by name."""
    return blocks_of("python/sqlalchemy.md", heading)


def use(project: Project, *headings: str) -> None:
    """Make the project of these sections with the pool of the test; later files replace earlier ones."""
    files = {name: text for heading in headings for name, text in blocks(heading).items()}
    ini = files.pop("pytest.ini")
    assert "pgdibs_pool = myapp_test\n" in ini
    settings = [line.split(" = ", 1) for line in ini.splitlines() if " = " in line]
    project.settings = {**dict(settings), "pgdibs_pool": project.pool}
    for name, text in files.items():
        project.file(name, text)


# In `make test` the page about a database per test shows such an engine.
@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_module_level_engine_and_session_per_test(project: Project, workers: str) -> None:
    use(project, "A module-level engine", "A session per test, rolled back")
    project.run(workers).assert_passed(8)


@pytest.mark.long
@pytest.mark.parametrize("is_in_ini", [False, True], ids=["not in ini", "in ini"])
def test_driver_of_variable_or_ini_file(project: Project, is_in_ini: bool) -> None:
    use(project, "A module-level engine", "A session per test, rolled back")
    project.environment["DATABASE_URL"] = "postgresql+asyncpg://real.example/real"
    driver = "psycopg" if is_in_ini else "asyncpg"
    if not is_in_ini:
        del project.settings["pgdibs_env"]
    project.file("test_driver.py", f"import app\ndef test_driver():\n    assert app.engine.driver == {driver!r}\n")
    project.settings["pgdibs_build"] = "psql -qc 'select 1'"
    project.run("test_driver.py").assert_passed(1)


@pytest.mark.long
def test_async_engine_uses_lease(project: Project) -> None:
    use(project, "An async engine")
    project.run("-n2", "-p", "pytest_asyncio.plugin").assert_passed(6)


@pytest.mark.long
def test_alembic_reads_url_of_lease(project: Project) -> None:
    use(project, "Alembic")
    project.run("-n2").assert_passed(2)


@pytest.mark.long
def test_background_worker_uses_lease(project: Project) -> None:
    use(project, "A module-level engine", "A session per test, rolled back", "A worker in the background")
    project.run("-n2", "test_background.py").assert_passed(1)


@pytest.mark.long
def test_old_conftest_fails_and_migrated_one_works(project: Project) -> None:
    use(project, "A module-level engine", "A session per test, rolled back")
    older = blocks("The older form, and the move")
    project.file("test_notes.py", "import app\ndef test_note():\n    app.add_note('hello')\n")
    with_lines = dict(project.settings)
    # Before: on a database of its own, as such a suite has it.
    project.settings = {}
    with project.client.lease(project.pool, fingerprint=fingerprint(project)) as lease:
        project.environment["DATABASE_URL"] = lease.url_for("postgresql+psycopg")
        project.file("conftest.py", older["before/conftest.py"])
        ran = project.run("-n2")
        assert "AttributeError: 'Config' object has no attribute 'slaveinput'" in ran.output
        project.file("conftest.py", older["before/conftest.py"].replace('slaveinput["slaveid"]', 'workerinput["workerid"]'))
        ran = project.run("-n2")
        assert re.search("AttributeError: (can't set attribute|.*no setter)", ran.output)
    # After.
    project.settings = with_lines
    project.environment["DATABASE_URL"] = "postgresql+psycopg://real.example/real"
    project.file("conftest.py", older["after/conftest.py"])
    project.run("-n2").assert_passed(1)


def fingerprint(project: Project) -> str:
    """An empty template, for a suite that creates its tables itself."""
    project.client.ensure_template(project.pool, "empty", lambda url: None)
    return "empty"
