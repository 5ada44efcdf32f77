"""The folder of templates: what the daemon lacks is imported, what was built is exported, a damaged file costs a build."""

from __future__ import annotations

import os
import shutil

import pytest
from projects import Project, postgres_programs

FOLDER = ".cache/pgdibs"
READS = """
import os, psycopg, pytest
@pytest.mark.parametrize("number", range(2))
def test_it(number):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        assert connection.execute("select body from notes").fetchall() == [("of the build",)]
"""


@pytest.fixture
def cached(project: Project) -> Project:
    """A project whose builds leave a line each in the file `builds`."""
    project.file("test_it.py", READS)
    project.file("schema.sql", "create table notes (body text); insert into notes values ('of the build');\n")
    psql = shutil.which("psql") or "psql"
    project.settings["pgdibs_build"] = f"sh -c 'echo built >> builds; exec {psql} -qf schema.sql'"
    project.environment.update(PGDIBS_BIN=os.path.abspath(project.daemon.program), PGDIBS_PG_BIN_DIR=postgres_programs())
    project.environment["PGDIBS_TEMPLATE_CACHE"] = FOLDER
    return project


def forget(project: Project) -> None:
    """Drop the templates, as if another machine had another daemon."""
    for template in project.client.call("GET", f"/v1/pools/{project.pool}")["templates"]:
        project.client.call("DELETE", f"/v1/pools/{project.pool}/templates/{template['fingerprint']}")


def test_template_is_imported_where_another_run_built_it(cached: Project) -> None:
    cached.run("-n2").assert_passed(2)
    folder = cached.pytester.path / FOLDER
    (file,) = folder.iterdir()
    assert file.name.startswith(f"{cached.pool}-pg") and file.suffix == ".pgdibs"
    forget(cached)
    ran = cached.run("-n2")
    ran.assert_passed(2)
    assert f"imported the template of pool {cached.pool} from {file}" in ran.output
    assert cached.text("builds") == "built\n"
    # The daemon has it: nothing is read or written.
    file.unlink()
    cached.run("-n0").assert_passed(2)
    assert (cached.text("builds"), list(folder.iterdir())) == ("built\n", [])


@pytest.mark.long
def test_damaged_file_is_removed_and_old_files_are_bounded(cached: Project) -> None:
    cached.run("-n0").assert_passed(2)
    folder = cached.pytester.path / FOLDER
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    for number, age in enumerate((400, 300, 200, 100)):
        old = folder / f"{cached.pool}-pg15-old{number}.pgdibs"
        old.write_bytes(b"")
        os.utime(old, (age, age))
    others = [folder / f"{cached.pool}2-pg15-other.pgdibs", folder / ".pgdibs-export-unfinished"]
    for other in others:
        other.write_bytes(b"")
        os.utime(other, (100, 100))
    forget(cached)
    ran = cached.run("-n0")
    ran.assert_passed(2)
    assert f"removed it, the template is built: {file} is damaged" in ran.output
    assert cached.text("builds") == "built\n" * 2
    names = {found.name for found in folder.iterdir()}
    kept = {file.name, f"{cached.pool}-pg15-old0.pgdibs", f"{cached.pool}-pg15-old1.pgdibs", others[0].name}
    assert names == kept
    assert file.stat().st_size > 1000


@pytest.mark.long
def test_folder_or_programs_that_cannot_be_used_cost_a_build_and_no_more(cached: Project) -> None:
    cached.run("-n0").assert_passed(2)
    folder = cached.pytester.path / FOLDER
    (file,) = folder.iterdir()
    file.write_bytes(b"no template")
    cached.environment["PGDIBS_PG_BIN_DIR"] = str(cached.pytester.path)
    forget(cached)
    ran = cached.run("-n0")
    ran.assert_passed(2)
    assert f"removed it, the template is built: {file} is no template of pgdibs" in ran.output
    assert "a transfer needs pg_dump, pg_restore and psql of version" in ran.output
    assert list(folder.iterdir()) == []
    del cached.environment["PGDIBS_TEMPLATE_CACHE"]
    cached.settings["pgdibs_template_cache"] = "schema.sql"
    forget(cached)
    ran = cached.run("-n0")
    ran.assert_passed(2)
    assert f"did not keep the template of pool {cached.pool}: " in ran.output
    ran = cached.run("-n0", "-o", "pgdibs_fingerprint=", "-o", "pgdibs_build=")
    assert ran.status == 4 and "pgdibs_template_cache has no effect here" in ran.output
