"""An unknown setting that starts with `pgdibs` stops the run, with a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import Project

TEST = "from pathlib import Path\ndef test_nothing():\n    Path('ran').touch()\n"

FILES = {
    "pytest.ini": "[pytest]\n{lines}",
    "tox.ini": "[tox]\n[pytest]\n{lines}",
    "setup.cfg": "[metadata]\n[tool:pytest]\n{lines}",
    "pyproject.toml": "[tool.pytest.ini_options]\n{toml}",
}
NATIVE = {"pyproject.toml, native": "[tool.pytest]\n{toml}", "pytest.toml": "[pytest]\n{toml}"}
if int(pytest.__version__.partition(".")[0]) >= 9:
    FILES.update(NATIVE)


def write(project: Project, file: str, settings: dict[str, str]) -> Path:
    """The ini file of the project with these settings."""
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    toml = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    return project.file(file.partition(",")[0], FILES[file].format(lines=lines, toml=toml))


@pytest.mark.parametrize("file", [pytest.param(file, marks=[] if file == "pytest.ini" else pytest.mark.long) for file in FILES])
@pytest.mark.parametrize(
    ("settings", "name", "suggestion"),
    [
        ({"pgdibs_pool": "POOL", "pgdibs_evn": "DATABASE_URL"}, "pgdibs_evn", "pgdibs_env"),
        ({"pgdibs_pol": "POOL"}, "pgdibs_pol", "pgdibs_pool"),
    ],
    ids=["beside a pool", "the pool itself"],
)
def test_misspelt_setting_in_each_ini_file_stops_run(
    project: Project, file: str, settings: dict[str, str], name: str, suggestion: str
) -> None:
    path = write(project, file, {key: value.replace("POOL", project.pool) for key, value in settings.items()})
    project.file("test_it.py", TEST)
    ran = project.run_as_written("-c", str(path), "--rootdir", str(project.pytester.path), "-n0")
    assert ran.status == 4, ran.output
    assert ran.errors[0] == f"ERROR: pgdibs: {name} in {path.name} is not a setting of pgdibs; did you mean {suggestion}?"
    assert "Traceback" not in ran.output
    assert not project.text("ran")
    assert not (project.pytester.path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (
            ["-n2"],
            {"pgdibs_evn": "DATABASE_URL"},
            "pgdibs_evn in pytest.ini is not a setting of pgdibs; did you mean pgdibs_env?",
        ),
        (["-o", "pgdibs_evn=X"], {}, "pgdibs_evn in -o is not a setting of pgdibs; did you mean pgdibs_env?"),
        ([], {"PGDIBS_POOL": "x"}, "PGDIBS_POOL in pytest.ini is not a setting of pgdibs; did you mean pgdibs_pool?"),
        pytest.param(
            [],
            {"pgdibs-tmp": "x"},
            "pgdibs-tmp in pytest.ini is not a setting of pgdibs; did you mean pgdibs_tmpdir?",
            marks=pytest.mark.long,
        ),
        pytest.param(
            [],
            {"pgdibs_zzz": "x"},
            "pgdibs_zzz in pytest.ini is not a setting of pgdibs; `pytest --help` lists the settings that",
            marks=pytest.mark.long,
        ),
        # The cause comes before the error that it leads to: no daemon, no fingerprint.
        ([], {"pgdibs_ur": "http://127.0.0.1:2", "pgdibs_url": ""}, "pgdibs_ur in pytest.ini is not a setting"),
        ([], {"pgdibs_fingerprnt": "schema.sql", "pgdibs_fingerprint": ""}, "did you mean pgdibs_fingerprint?"),
    ],
    ids=["xdist", "-o", "upper case", "hyphen", "nothing near", "url", "fingerprint"],
)
def test_error_names_setting_place_and_suggestion(
    project: Project, arguments: list[str], settings: dict[str, str], sentence: str
) -> None:
    if "pgdibs_ur" in settings:
        project.environment["PGDIBS_URL"] = "http://127.0.0.1:1"
    project.settings.update(settings)
    project.file("test_it.py", TEST)
    ran = project.run(*arguments)
    assert ran.status == 4, ran.output
    assert sentence in ran.errors[0]
    assert sum(sentence in error for error in ran.errors) == 1
    assert "Traceback" not in ran.output
    assert not (project.pytester.path / "ran").exists()


REGISTERS = """
def pytest_addoption(parser):
    parser.addini("pgdibs_evn", "a setting of the project", default="nothing")
def pytest_configure(config):
    assert config.getini("pgdibs_evn") == "of the project"
"""


@pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])
@pytest.mark.parametrize("where", ["conftest.py", pytest.param("plugin.py", marks=pytest.mark.long)])
def test_setting_of_another_plugin_is_accepted(project: Project, where: str, workers: str) -> None:
    project.file(where, REGISTERS)
    project.settings["pgdibs_evn"] = "of the project"
    project.file("test_it.py", TEST)
    arguments = ["-p", "plugin"] if where == "plugin.py" else []
    project.run(workers, *arguments).assert_passed(1)


@pytest.mark.long
def test_misspelt_setting_with_build_hook_is_reported_once(project: Project) -> None:
    project.settings.update(pgdibs_build="", pgdibs_evn="DATABASE_URL")
    project.file("conftest.py", "def pytest_pgdibs_build_template(url):\n    pass\n")
    project.file("test_it.py", TEST)
    ran = project.run("-n0")
    assert (ran.status, ran.output.count("did you mean pgdibs_env?")) == (4, 1), ran.output


@pytest.mark.long
def test_help_works_with_a_misspelt_setting(project: Project) -> None:
    project.settings["pgdibs_evn"] = "DATABASE_URL"
    ran = project.run("--help")
    assert ran.status == 0
    assert "pgdibs_env (" in ran.output


@pytest.mark.parametrize(
    "settings", [{}, pytest.param({"pgdibs_pool": "EMPTY"}, marks=pytest.mark.long)], ids=["absent", "empty"]
)
def test_settings_without_pool_stop_run_before_conftest(project: Project, settings: dict[str, str]) -> None:
    del project.settings["pgdibs_pool"]
    project.file("conftest.py", "open('imported', 'w').close()\n")
    project.file("test_it.py", "def test_it():\n    pass\n")
    ran = project.run(*(["-o", "pgdibs_pool="] if settings else []))
    assert ran.status == 4 and len(ran.errors) == 1, ran.output
    assert "pgdibs_fingerprint" in ran.errors[0] and "no pool" in ran.errors[0] and "-p no:pgdibs" in ran.errors[0]
    assert not (project.pytester.path / "imported").exists()
    # It runs with a pool from a flag, or without pgdibs.
    project.run("--pgdibs-pool", project.pool).assert_passed(1)
    project.run("-p", "no:pgdibs.pytest_plugin", plugins=["-p", "xdist"]).assert_passed(1)
