"""Builds of templates: by hook and command, failures, environment, and when a template is built again."""

from __future__ import annotations

import json
import shutil
import sys

import psycopg
import pytest
from developers import WRITES, DeveloperDatabase
from projects import SCHEMA, Project

READS = """
import os, psycopg, pytest
@pytest.mark.parametrize("number", range(4))
def test_it(number):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        assert connection.execute("select body from notes").fetchall() == [("of the build",)]
"""
HOOK = """
import json, os, pathlib, sys
URL = os.environ["DATABASE_URL"]  # at import, as applications do
def pytest_pgdibs_build_template(url):
    import psycopg
    with psycopg.connect(url) as connection:
        connection.execute("create table notes (body text)")
        connection.execute("insert into notes values ('of the build')")
    with open("builds", "a") as file:
        file.write(json.dumps({"url": url, "variable": URL, "alias": os.environ["PGDIBS_ALIAS"]}) + "\\n")
"""


@pytest.mark.long
def test_build_hook_runs_once_on_its_database(project: Project) -> None:
    project.settings["pgdibs_build"] = ""
    project.environment["DATABASE_URL"] = "postgresql+psycopg://real.example/real"
    project.file("conftest.py", HOOK)
    project.file("test_it.py", READS.replace('os.environ["DATABASE_URL"]', 'os.environ["DATABASE_URL"].replace("+psycopg", "")'))
    for workers in ("-n2", "-n0", "-n2"):
        project.run(workers).assert_passed(4)
    (build,) = map(json.loads, project.text("builds").splitlines())
    assert build["variable"] == build["url"].replace("postgresql://", "postgresql+psycopg://")
    assert build["alias"] == "default"
    # Another schema, without workers this time.
    project.file("schema.sql", "-- changed\n")
    project.run("-n0").assert_passed(4)
    assert len(project.text("builds").splitlines()) == 2


def test_login_of_ini_file_creates_databases_up_to_max_login(project: Project) -> None:
    project.settings["pgdibs_login"] = "createdb"
    project.file(
        "test_it.py",
        f"""
import os, psycopg
def test_it():
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("create database {project.pool}_of_tests")
""",
    )
    project.run("-n0").assert_passed(1)
    ran = project.run("-n0", "-o", "pgdibs_login=superuser")
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert 'max_login = "createdb"' in ran.errors[0]
    ran = project.run("-n0", "-o", "pgdibs_login=root")
    assert "pgdibs_login in the ini file is `root`; it has to be `plain` or `createdb` or `superuser`" in ran.output


@pytest.mark.long
def test_failing_build_hook_is_reported_with_traceback(project: Project) -> None:
    project.settings["pgdibs_build"] = ""
    project.file("conftest.py", "def pytest_pgdibs_build_template(url):\n    raise RuntimeError('no such migration')\n")
    project.file("test_it.py", READS)
    for workers in ("-n2", "-n0"):
        ran = project.run(workers)
        assert (ran.status, len(ran.errors)) == (4, 1), ran.output
        assert "the build of the template failed: the hook pytest_pgdibs_build_template ended with " in ran.errors[0]
        assert "RuntimeError: no such migration" in ran.output


@pytest.mark.long
def test_run_after_failed_build_builds_again(project: Project) -> None:
    project.settings["pgdibs_build"] = "cat it-works"
    project.file("test_it.py", "def test_it():\n    pass\n")
    assert project.run("-n2").status == 4
    project.file("it-works", "")
    project.run("-n2").assert_passed(1)


@pytest.mark.long
def test_build_command_gets_its_database_in_variables(project: Project) -> None:
    project.settings["pgdibs_env"] = "TEST_DATABASE_URL DB_NAME=default.database STATS_URL=stats"
    project.settings["pgdibs_aliases"] = f"stats={project.pool}_b"
    project.client.put_pool(project.pool, warm=1)
    project.environment.update(DATABASE_URL="postgresql://real.example/real", TEST_DATABASE_URL="postgresql+asyncpg://x/y")
    project.settings["pgdibs_build"] = "sh -c 'env > seen-$PGDIBS_ALIAS; pwd >> seen-$PGDIBS_ALIAS; psql -qf schema.sql'"
    project.file("sub/test_it.py", "def test_it():\n    pass\n")
    project.run("-n1", "sub").assert_passed(1)
    for alias, other in (("default", "stats"), ("stats", "default")):
        lines = project.text(f"seen-{alias}").splitlines()
        seen = dict(line.split("=", 1) for line in lines if "=" in line)
        assert lines[-1] == str(project.pytester.path)
        assert seen["DATABASE_URL"].endswith("/" + seen["PGDATABASE"])
        assert "real.example" not in str(seen)
        assert seen["PGDATABASE"].startswith(f"{project.pool}{'_b' if alias == 'stats' else ''}_build_")
        own, others = ("TEST_DATABASE_URL", "STATS_URL") if other == "stats" else ("STATS_URL", "TEST_DATABASE_URL")
        assert seen[own].endswith("/" + seen["PGDATABASE"])
        assert "only-test-processes-have-a-database" in seen[others]
    project.client.call("DELETE", f"/v1/pools/{project.pool}_b?force=true")


def test_aliases_of_ini_and_hook_are_leased_together(project: Project) -> None:
    project.settings["pgdibs_aliases"] = "one"
    project.file("conftest.py", "def pytest_pgdibs_aliases(config):\n    return ['two']\n")
    project.file(
        "test_it.py",
        """
import psycopg
def test_it(request, pgdibs_lease):
    from pgdibs.plugin.databases import databases_of
    leases = databases_of(request.config).leases
    names = set()
    for lease in leases.values():
        with psycopg.connect(lease.url) as connection:
            names.add(connection.execute("select current_database()").fetchone()[0])
    assert list(leases) == ["default", "one", "two"]
    assert len(names) == 3
""",
    )
    project.run("-n1").assert_passed(1)
    project.client.put_pool(project.pool, max=5)
    ran = project.run("-n2")
    assert (ran.status, len(ran.errors)) == (4, 1)
    assert "6 databases at once do not fit" in ran.errors[0]


@pytest.mark.long
def test_template_of_daemon_needs_only_pool(project: Project) -> None:
    # As with a daemon that builds the template: the plugin sends no fingerprint and gets the newest template.
    project.file("schema.sql", "create table notes (body text); insert into notes values ('of the build');\n")
    project.file("test_it.py", READS)
    project.run("-n2").assert_passed(4)
    project.settings.update(pgdibs_fingerprint="", pgdibs_build="")
    ran = project.run("-n2")
    ran.assert_passed(4)
    assert "2 databases leased by 2 workers, template built by the daemon, " in ran.output


@pytest.mark.long
def test_login_of_build_ends_with_build(project: Project) -> None:
    project.settings["pgdibs_build"] = "sh -c 'printenv DATABASE_URL > url; psql -qf schema.sql'"
    project.file("test_it.py", "def test_it():\n    pass\n")
    project.run("-n1").assert_passed(1)
    try:
        psycopg.connect(project.text("url").strip()).close()
    except psycopg.OperationalError:
        return
    raise AssertionError("the builder can still connect")


def test_build_cannot_reach_databases_of_other_variables(project: Project, developer: DeveloperDatabase) -> None:
    project.environment["REPORTS_URL"] = developer.url("postgresql+psycopg")
    project.file(
        "build.py",
        "import os, psycopg\n"
        "with psycopg.connect(os.environ['REPORTS_URL'].replace('+psycopg', '')) as connection:\n"
        f"    connection.execute({WRITES!r})\n",
    )
    project.settings["pgdibs_build"] = f"{sys.executable} build.py"
    project.file("test_it.py", "def test_it(pgdibs_url):\n    pass\n")
    ran = project.run()
    assert ran.status == 4 and "port 1 failed" in ran.output, ran.output
    assert "REPORTS_URL: unavailable in a build, because pgdibs_env does not name it" in ran.output
    developer.assert_untouched()
    # With `pgdibs_allow` the build reaches it.
    project.settings["pgdibs_allow"] = f"127.0.0.1:{developer.server.port}/{developer.name}"
    project.run().assert_passed(1)


@pytest.mark.long
def test_changed_build_command_builds_new_template(project: Project) -> None:
    project.file("test_it.py", READS)
    project.settings["pgdibs_build"] = "true"
    assert "does not exist" in project.run().output
    project.file("build.sql", f"{SCHEMA}insert into notes (body) values ('of the build');")
    project.settings["pgdibs_build"] = f"{shutil.which('psql') or 'psql'} -qf build.sql"
    project.run().assert_passed(4)


@pytest.mark.long
def test_template_follows_variables_and_ini_file_not_rootdir(project: Project) -> None:
    """Relatives: pytest-dev/pytest#6376 and #8464 (`--rootdir` and `-c` give the same suite another rootdir)."""
    project.file("db/schema.sql", f"{SCHEMA}insert into notes (body) values ('of the build');")
    project.file("backend/tests/unit/test_it.py", READS)
    project.file(
        "backend/tests/pytest.ini",
        f"[pytest]\npgdibs_pool = {project.pool}\npgdibs_fingerprint = ../../db/*.sql\npgdibs_fingerprint_env = SEED MISSING\n"
        f"pgdibs_build = {shutil.which('psql') or 'psql'} -qf ../../db/schema.sql\n",
    )
    project.environment["SEED"] = "1"
    for word, seed, arguments in (
        ("built", "1", ["--rootdir", "."]),
        ("reused", "1", ["--rootdir", "backend/tests/unit"]),
        ("built", "2", []),
        ("built", "2", ["--pgdibs-rebuild"]),
    ):
        project.environment["SEED"] = seed
        ran = project.run_as_written("-c", "backend/tests/pytest.ini", "backend/tests", *arguments)
        ran.assert_passed(4)
        assert f"template {word} in" in ran.output, (word, seed, arguments)


@pytest.mark.long
def test_rebuild_of_template_of_daemon_is_refused(project: Project) -> None:
    project.settings.update(pgdibs_fingerprint="", pgdibs_build="")
    project.file("test_it.py", "def test_it():\n    pass\n")
    ran = project.run("--pgdibs-rebuild")
    assert (ran.status, "`pgdibs template drop` forces a build" in ran.errors[0]) == (4, True)
