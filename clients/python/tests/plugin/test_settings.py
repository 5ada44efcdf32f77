"""Options, variables and ini values: precedence, --help, one error for each invalid setting, and the plugin at rest."""

from __future__ import annotations

import subprocess
import sys

import pytest
from projects import Project

PASSES = "def test_nothing():\n    pass\n"


def test_plugin_at_rest_loads_no_module(pytester: pytest.Pytester) -> None:
    code = "import sys, pytest; before = set(sys.modules); import pgdibs.pytest_plugin; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == "['pgdibs', 'pgdibs.pytest_plugin']"


def test_plugin_at_rest_prints_nothing(project: Project) -> None:
    project.settings = {"addopts": "--strict-markers"}
    project.environment["PGDIBS_URL"] = "http://127.0.0.1:1"
    project.file("test_it.py", "import pytest\n@pytest.mark.pgdibs(reset='before')\ndef test_nothing():\n    pass\n")
    ran = project.run()
    ran.assert_passed(1)
    assert "pgdibs:" not in ran.output
    project.file("test_it.py", "def test_asks(pgdibs_url):\n    pass\n")
    ran = project.run()
    assert ran.status == 1
    assert "pgdibs: this needs a pool: set pgdibs_pool in the ini file, PGDIBS_POOL or --pgdibs-pool" in ran.output
    assert "Traceback" not in ran.output


def test_flag_wins_over_variable_over_ini_file(project: Project) -> None:
    project.settings.update(pgdibs_url="http://ini.example:1", pgdibs_env="")
    project.file("test_it.py", PASSES)
    flags = ["--pgdibs-pool", "of_flag", "--pgdibs-url", "http://flag.example:1/"]
    del project.environment["PGDIBS_URL"]
    assert f"this process leases from pool {project.pool} at http://ini.example:1 (" in project.run().output
    project.environment.update(PGDIBS_URL="http://variable.example:1", PGDIBS_POOL="of_variable")
    assert "leases from pool of_variable at http://variable.example:1 (" in project.run().output
    assert "leases from pool of_flag at http://flag.example:1 (" in project.run(*flags).output


def test_help_lists_all_settings(project: Project) -> None:
    text = " ".join(project.run("--help").output.split())
    for name in ("pool", "url", "start", "timeout", "keep"):
        assert f"--pgdibs-{name}" in text
        assert f"PGDIBS_{name.upper()}, ini pgdibs_{name}" in text
    assert "--pgdibs={on,off}" in text
    for name in ("env", "aliases", "fingerprint", "fingerprint_env", "build", "tmpdir"):
        assert f"pgdibs_{name} (" in text


MISTAKES = [
    ({"pgdibs_pool": "My-Pool"}, "pgdibs_pool in the ini file is `My-Pool`; a pool is 1 to 40 lower-case letters"),
    (
        {"pgdibs_url": "localhost:7432"},
        "pgdibs_url in the ini file is `localhost:7432`; it has to be the daemon's address, as in http",
    ),
    ({"pgdibs_start": "yes"}, "pgdibs_start in the ini file is `yes`; it has to be `auto` or `never`"),
    ({"pgdibs_keep": "all"}, "pgdibs_keep in the ini file is `all`; it has to be `failed` or `never`"),
    ({"pgdibs_timeout": "soon"}, "pgdibs_timeout in the ini file is `soon`; it has to be a number of seconds above 0"),
    ({"pgdibs_env": "DATABASE-URL"}, "pgdibs_env in the ini file: `DATABASE-URL` is none of VARIABLE, VARIABLE=ALIAS, VARIABLE="),
    ({"pgdibs_env": "DB=default.socket"}, "(a part is one of url, host, port, user, password, database)"),
    ({"pgdibs_env": 'DATABASE_URL "'}, "pgdibs_env in the ini file: No closing quotation"),
    ({"pgdibs_aliases": "a=B"}, "pgdibs_aliases in the ini file is `B`; a pool is"),
    ({"pgdibs_aliases": "=b"}, "pgdibs_aliases in the ini file: `=b` is neither ALIAS nor ALIAS=POOL"),
    ({"pgdibs_fingerprint": "no/*.sql"}, "pgdibs_fingerprint in the ini file: `no/*.sql` matches nothing in"),
    (
        {"pgdibs_fingerprint_env": "DATABASE_URL"},
        "pgdibs_fingerprint_env in the ini file: pgdibs itself sets DATABASE_URL",
    ),
    ({"pgdibs_fingerprint": ""}, "pgdibs_build needs pgdibs_fingerprint, the globs of all files that define the schema"),
]


# One for each way to read a setting.
SHORT = ("My-Pool", "yes", "soon", "DB=default.socket", "a=B", "no/*.sql")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [pytest.param(*mistake, marks=[] if {*mistake[0].values()} & {*SHORT} else pytest.mark.long) for mistake in MISTAKES],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_invalid_setting_is_one_error(project: Project, settings: dict[str, str], sentence: str) -> None:
    if "pgdibs_url" in settings:
        del project.environment["PGDIBS_URL"]
    project.settings.update(settings)
    project.file("test_it.py", PASSES)
    ran = project.run("-n2")
    assert (ran.status, len(ran.errors)) == (4, 1)
    assert sentence in ran.errors[0]
    assert "Traceback" not in ran.output


@pytest.mark.long
def test_setting_of_wrong_type_is_one_error(project: Project) -> None:
    project.file("pyproject.toml", "[tool.pytest.ini_options]\npgdibs_pool = 'x'\npgdibs_env = [1]\n")
    project.file("test_it.py", PASSES)
    ran = project.run_as_written("-c", "pyproject.toml")
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert "pgdibs_env in the ini file: `1` is none of VARIABLE, " in ran.errors[0]
    if int(pytest.__version__.partition(".")[0]) >= 9:
        for line, name in (("pgdibs_pool = 1", "pgdibs_pool"), ("pgdibs_pool = 'x'\npgdibs_env = 'A'", "pgdibs_env")):
            project.file("pyproject.toml", f"[tool.pytest]\n{line}\n")
            ran = project.run_as_written("-c", "pyproject.toml")
            assert ran.status == 4, ran.output
            assert f"config option '{name}' expects a" in ran.errors[0]
            assert "Traceback" not in ran.output


@pytest.mark.long
def test_wrong_marker_is_one_error(project: Project) -> None:
    project.file("test_it.py", "import pytest\n@pytest.mark.pgdibs(reset='after')\ndef test_nothing():\n    pass\n")
    ran = project.run()
    assert ran.status == 4
    assert ran.errors == [
        "ERROR: pgdibs: test_it.py::test_nothing: the marker is pgdibs(reset=\"before\"), not pgdibs(reset='after')"
    ]
