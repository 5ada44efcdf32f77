"""The driver and options of a URL: from the ini file, the variable before pgdibs, or `.env*` files; undeclared aliases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from projects import Project

# One variable for each source of a driver: the ini file, the environment, pgdibs itself, .env.test, .env.
ENTRIES = "ALL=postgresql+psycopg://?of=ini BEFORE FILES=default EXPORTED ONLY_EXPORTED FOREIGN NONE DB_HOST=default.host"
ENVIRONMENT = {
    "ALL": "postgresql+asyncpg://me@real.example/real?of=before",
    "BEFORE": "postgresql+asyncpg://me:se[cret@real.example/real?of=before&host=real.example",
    "EXPORTED": "postgresql://me@127.0.0.1/pool_gw0?of=exported",
    "ONLY_EXPORTED": "postgresql+psycopg2://me@127.0.0.1/pool_gw0?of=exported",
    "FOREIGN": "sqlite:///dev.db?of=before",
    "PGDIBS_EXPORTED": "EXPORTED, ONLY_EXPORTED",
}
FILES = {
    ".env.test": "FILES=${SCHEME}://x/y\nBEFORE=postgres://x/y?of=test\n",
    ".env": "ALL=postgres://x/y?of=env\nEXPORTED=postgresql+asyncpg://${USER}:x@${HOST}/y?of=env&timeout=${TIMEOUT}\n"
    "FILES='postgresql+pg8000://u:p@h/d?of=env'\nFOREIGN=postgresql+asyncpg://x/y\n",
}
EXPECTED = {
    "ALL": ("postgresql+psycopg", "of=ini"),
    "BEFORE": ("postgresql+asyncpg", "of=before"),
    "FILES": ("postgresql+pg8000", "of=env"),
    "EXPORTED": ("postgresql+asyncpg", "of=env"),
    "ONLY_EXPORTED": ("postgresql+psycopg2", "of=exported"),
    "FOREIGN": ("postgresql+asyncpg", ""),
    "NONE": ("postgresql", ""),
}
CONFTEST = """
import json, os, pathlib
who = os.environ.get("PYTEST_XDIST_WORKER", "main")
pathlib.Path(f"seen-{who}.json").write_text(json.dumps(dict(os.environ)))
"""


def seen(project: Project, who: str) -> dict[str, Any]:
    """The environment that conftest.py saw in that process."""
    found: dict[str, Any] = json.loads(project.text(f"seen-{who}.json"))
    return found


@pytest.mark.parametrize("workers", ["-n2", pytest.param("-n0", marks=pytest.mark.long)])
def test_driver_precedence_ini_variable_env_files(project: Project, workers: str) -> None:
    project.settings["pgdibs_env"] = ENTRIES
    project.environment.update(ENVIRONMENT)
    for name, text in FILES.items():
        project.file(name, text)
    project.file("conftest.py", CONFTEST)
    project.file("test_it.py", "def test_nothing():\n    pass\ndef test_nothing_more():\n    pass\n")
    project.run(workers).assert_passed(2)
    for who in ("main",) if workers == "-n0" else ("main", "gw0", "gw1"):
        found = seen(project, who)
        for name, (scheme, query) in EXPECTED.items():
            url, _mark, options = found[name].partition("?")
            assert (url.partition("://")[0], options) == (scheme, query), (who, name)
            assert f"/{project.pool}_gw" in url or (who == "main" and "only-test-processes-have-a-database" in url)
        assert set(found["PGDIBS_EXPORTED"].split(",")) == {*EXPECTED, "DB_HOST"}
        values = [found[name] for name in (*EXPECTED, "PGDIBS_EXPORTED")]
        assert not any("real.example" in value or "cret" in value for value in values)


@pytest.mark.long
def test_nested_pytest_takes_driver_from_its_project(project: Project) -> None:
    project.settings["pgdibs_env"] = "DATABASE_URL=postgresql+psycopg://"
    project.file(
        "test_it.py",
        """
import os, subprocess, sys
def test_it():
    assert os.environ["DATABASE_URL"].startswith("postgresql+psycopg://")
    of_ini = ["-o", "pgdibs_env=DATABASE_URL=postgresql+pg8000://"]
    for arguments, scheme in (([], "postgresql+asyncpg"), (of_ini, "postgresql+pg8000")):
        command = [sys.executable, "-m", "pytest", "-p", "pgdibs.pytest_plugin", "-c", "inner/pytest.ini", "inner", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stdout
        assert open("url").read().partition("://")[0] == scheme
""",
    )
    project.file("inner/pytest.ini", f"[pytest]\npgdibs_pool = {project.pool}\n")
    project.file("inner/.env", "DATABASE_URL=postgresql+asyncpg://x/y\n")
    project.file("inner/test_inner.py", "import os\ndef test_it():\n    open('url', 'w').write(os.environ['DATABASE_URL'])\n")
    project.run("-n0", "test_it.py").assert_passed(1)


MISTAKES = [
    (
        "DATABASE_URL=asyncpg",
        "names the alias `asyncpg`, which nothing declares; to name a driver write `DATABASE_URL=postgresql+asyncpg://`",
    ),
    ("URL=psycopg2", "to name a driver write `URL=postgresql+psycopg2://`"),
    ("URL=pg8000.url", "to name a driver write `URL=postgresql+pg8000://`"),
    ("URL=postgres", "to name a driver write `URL=postgres://`"),
    ("URL=postgresql+asyncpg", "to name a driver write `URL=postgresql+asyncpg://`"),
    ("URL=postgresql+asyncpg:", "to name a driver write `URL=postgresql+asyncpg://`"),
    ("URL=defualt", "names the alias `defualt`, which nothing declares; did you mean `URL=default`?"),
    (
        "URL=stats",
        "which nothing declares; if each process needs this further database, declare it: `pgdibs_aliases = stats`",
    ),
    (
        "URL=mysql+pymysql://",
        "`URL=mysql+pymysql://`: the URL has to name Postgres and may name a driver, as in `URL=postgresql+asyncpg://`",
    ),
]


SHORT = ("DATABASE_URL=asyncpg", "URL=defualt", "URL=stats", "URL=mysql+pymysql://")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [pytest.param(*mistake, id=mistake[0], marks=[] if mistake[0] in SHORT else pytest.mark.long) for mistake in MISTAKES],
)
def test_undeclared_alias_is_an_error_without_lease(project: Project, entry: str, sentence: str) -> None:
    project.settings["pgdibs_env"] = entry
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    ran = project.run("-n2")
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert ran.errors[0].startswith("ERROR: pgdibs: pgdibs_env in the ini file: `")
    assert sentence in ran.errors[0]
    assert "Traceback" not in ran.output
    assert project.client.leases(pool=project.pool, state="all") == []


@pytest.mark.long
def test_declared_alias_may_have_name_of_driver(project: Project) -> None:
    project.settings.update(pgdibs_env="DATABASE_URL URL=asyncpg", pgdibs_aliases="asyncpg")
    project.file("test_it.py", "import os\ndef test_it():\n    assert os.environ['URL'] != os.environ['DATABASE_URL']\n")
    project.run().assert_passed(1)


@pytest.mark.parametrize("place", [pytest.param("ini", marks=pytest.mark.long), ".env"])
def test_pgdibs_run_keeps_driver_of_project(project: Project, place: str) -> None:
    project.file("test_none.py", "def test_nothing():\n    pass\n")
    project.run("test_none.py").assert_passed(1)  # the template
    if place == "ini":
        project.settings["pgdibs_env"] = "DATABASE_URL=postgresql+asyncpg://"
    else:
        del project.settings["pgdibs_env"]
        project.file(".env", "DATABASE_URL=postgresql+asyncpg://me:x@real.example/real\n")
    project.file(
        "test_it.py",
        "import os\ndef test_it(pgdibs_lease):\n"
        "    assert os.environ['OF_RUN'] not in (pgdibs_lease.url, '')\n"
        "    assert os.environ['DATABASE_URL'] == pgdibs_lease.url_for('postgresql+asyncpg')\n",
    )
    outer = ["sh", "-c", 'OF_RUN="$DATABASE_URL" exec "$@"', "sh"]
    project.run("test_it.py", within=[project.daemon.program, "run", "--pool", project.pool, "--", *outer]).assert_passed(1)
