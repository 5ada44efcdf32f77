"""Variables with Django: none by default, those of the ini file, and with `--pgdibs=off`."""

from __future__ import annotations

import pytest
from django_projects import SETTINGS, DjangoProject

SEEN = """
import os, pathlib
names = ["DATABASE_URL", "TEST_DATABASE_URL"]
pathlib.Path("seen.txt").write_text(" ".join(f"{name}={os.environ.get(name)}" for name in names))
"""
URLS = """
import os, urllib.parse
for alias, variable in (("default", "DATABASE_URL"), ("audit", "AUDIT_URL")):
    url = urllib.parse.urlsplit(os.environ[variable])
    password = urllib.parse.unquote(url.password)
    DATABASES[alias].update(NAME=url.path[1:], HOST=url.hostname, PORT=url.port, USER=url.username, PASSWORD=password)
"""
WHERE = """
import pytest
from django.db import connections
@pytest.mark.django_db(databases=["default", "audit"])
@pytest.mark.parametrize("alias", ["default", "audit"])
def test_it(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("select current_database()")
        assert cursor.fetchone()[0].rpartition("_gw")[0] == "POOL" + ("_audit" if alias == "audit" else "")
"""
UNAVAILABLE = "only-test-processes-have-a-database"


@pytest.mark.parametrize(
    "how", ["ini", *(pytest.param(how, marks=pytest.mark.long) for how in ("variable", "--ds", "configured"))]
)
def test_django_in_use_sets_no_variable_by_default(project: DjangoProject, how: str) -> None:
    arguments = ["--ds", "settings"] if how == "--ds" else []
    if how != "ini":
        del project.settings["DJANGO_SETTINGS_MODULE"]
    if how == "variable":
        project.environment["DJANGO_SETTINGS_MODULE"] = "settings"
    if how == "configured":
        project.file("early.py", f"from django.conf import settings\n{SETTINGS}\nsettings.configure(DATABASES=DATABASES)\n")
        project.settings["pythonpath"] = "."
        arguments = ["-p", "early"]
    project.environment["PYTHONPATH"] = str(project.pytester.path)
    project.file("conftest.py", SEEN)
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    ran = project.run_django("-n0", *arguments)
    ran.assert_passed(1)
    assert project.text("seen.txt") == "DATABASE_URL=None TEST_DATABASE_URL=None"
    assert "no test used a fixture of pgdibs or a database of Django and no variable was set" in ran.output


def test_pytest_django_without_settings_counts_as_absent(project: DjangoProject) -> None:
    project.settings = {"pgdibs_pool": project.pool, "pgdibs_fingerprint": "schema.sql", "pgdibs_build": "psql -qf schema.sql"}
    project.file("conftest.py", SEEN)
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    ran = project.run_django("-n0")
    ran.assert_passed(1)
    assert f"/{project.pool}_gw" in project.text("seen.txt")


@pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])
def test_alias_of_django_needs_no_declaration(project: DjangoProject, workers: str) -> None:
    project.settings["pgdibs_env"] = "DATABASE_URL AUDIT_URL=audit"
    project.file("settings.py", project.text("settings.py") + URLS)
    project.file("test_it.py", WHERE.replace("POOL", project.pool))
    project.run_django(workers).assert_passed(2)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        pytest.param(
            "AUDIT_URL=asyncpg",
            "names the alias `asyncpg`, which nothing declares; to name a driver write",
            marks=pytest.mark.long,
        ),
        ("AUDIT_URL=audti", "names the alias `audti`, which nothing declares; "),
    ],
)
def test_alias_unknown_to_django_is_an_error(project: DjangoProject, entry: str, sentence: str) -> None:
    project.settings["pgdibs_env"] = f"DATABASE_URL {entry}"
    project.file("test_it.py", "def test_nothing():\n    open('ran', 'w')\n")
    ran = project.run_django("-n0")
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert sentence in ran.errors[0]
    assert "Traceback" not in ran.output
    assert not (project.pytester.path / "ran").exists()
    if entry.endswith("audti"):
        project.client.call("DELETE", f"/v1/pools/{project.pool}_audti?force=true")


@pytest.mark.parametrize(
    "value", ["postgis://me@real.example/real", "sqlite:///dev.db", pytest.param(None, marks=pytest.mark.long)]
)
def test_off_makes_postgres_url_unavailable(project: DjangoProject, value: str | None) -> None:
    project.environment["PGDIBS_URL"] = "http://127.0.0.1:1"
    if value is not None:
        project.environment["DATABASE_URL"] = value
    project.file("conftest.py", SEEN)
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    ran = project.run_django("-n0", "--pgdibs=off")
    ran.assert_passed(1)
    seen = project.text("seen.txt")
    if value is not None and value.startswith("postgis"):
        assert seen.startswith(f"DATABASE_URL=postgis://{UNAVAILABLE}:")
        assert "no database is leased; set to a server that does not exist: DATABASE_URL\n" in ran.output
    else:
        assert seen == f"DATABASE_URL={value} TEST_DATABASE_URL=None"
        assert "pgdibs: off (--pgdibs=off), no database is leased\n" in ran.output
