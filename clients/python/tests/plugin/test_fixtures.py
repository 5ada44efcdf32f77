"""Fixtures, the marker, kept databases, temporary directories, slots, header and summary."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psycopg
import pytest
from projects import Project

COUNT = """
import os, psycopg, pytest
def add_and_count():
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("insert into notes (body) values ('x')")
        return connection.execute("select count(*) from notes").fetchone()[0]
"""


@pytest.mark.parametrize("workers", ["-n2", pytest.param("-n0", marks=pytest.mark.long)])
def test_fixtures_and_marker_reset_as_documented(project: Project, workers: str) -> None:
    project.file(
        "test_it.py",
        COUNT
        + """
def test_lease(pgdibs_lease, pgdibs_url):
    assert pgdibs_url == pgdibs_lease.url == os.environ["DATABASE_URL"]
    assert os.environ["PGDIBS_SLOT"] == str(pgdibs_lease.slot)
    assert add_and_count() == 1
def test_tests_share_a_database():
    assert add_and_count() == 2
def test_fresh(pgdibs_fresh_url, pgdibs_lease):
    assert pgdibs_fresh_url == os.environ["DATABASE_URL"]
    assert pgdibs_lease.generation == 2
    assert add_and_count() == 1
def test_the_next_one_sees_nothing_of_it(pgdibs_lease):
    assert pgdibs_lease.generation == 3
    assert add_and_count() == 1
@pytest.mark.pgdibs(reset="before")
def test_marked(pgdibs_lease):
    assert pgdibs_lease.generation == 4
    assert add_and_count() == 1
def test_after_a_marked_one():
    assert add_and_count() == 2
def test_fresh_again(pgdibs_fresh_url):
    assert add_and_count() == 1
def test_fresh_at_once(pgdibs_fresh_url, pgdibs_lease):
    assert add_and_count() == 1
    assert pgdibs_lease.generation == 6
@pytest.mark.pgdibs(reset="before")
class TestClass:
    def test_one(self):
        assert add_and_count() == 1
    def test_two(self, pgdibs_fresh_url, pgdibs_lease):
        assert add_and_count() == 1
        assert pgdibs_lease.generation == 8
""",
    )
    ran = project.run(workers, "--dist=loadfile")
    ran.assert_passed(10)
    assert "7 resets" in ran.output


@pytest.mark.long
def test_marker_leases_and_calls_before_reset_hook(project: Project) -> None:
    project.settings["pgdibs_env"] = ""
    project.file(
        "conftest.py",
        "import pathlib\n"
        "def pytest_pgdibs_leased(config, databases):\n    pathlib.Path('url').write_text(databases.leases['default'].url)\n"
        "def pytest_pgdibs_before_reset(config):\n    open('closed', 'a').write('closed ')\n",
    )
    project.file(
        "test_it.py", "import pytest\n@pytest.mark.pgdibs(reset='before')\ndef test_it():\n    assert open('url').read()\n"
    )
    project.run().assert_passed(1)
    assert project.text("closed") == "closed "


FAILING = (
    COUNT
    + """
def test_one():
    add_and_count()
    assert "a failure" == "is kept"
def test_two():
    assert add_and_count() == 1
@pytest.fixture
def failing():
    add_and_count()
    raise RuntimeError("in setup")
def test_three(failing):
    pass
"""
)


@pytest.mark.parametrize("workers", ["-n2", pytest.param("-n0", marks=pytest.mark.long)])
def test_database_of_failed_test_is_kept(project: Project, workers: str) -> None:
    project.file("test_it.py", FAILING)
    ran = project.run(workers, "--dist=loadfile", "--pgdibs-keep=failed")
    assert (ran.status, ran.counted("passed"), ran.counted("failed"), ran.counted("error")) == (1, 1, 1, 1), ran.output
    sections = re.findall(r"-+ pgdibs -+\n(psql '[^']+')\n\(this database is kept as it was for one hour\)", ran.output)
    assert len(sections) == 2, ran.output
    assert "2 kept" in ran.output
    # The lines are shell commands, so a shell runs them.
    kept = dict(re.findall(r"kept: test_it.py::test_(\w+): (psql .*)", ran.output))
    assert set(kept.values()) == set(sections)
    for name, notes in (("one", "1"), ("three", "2")):
        line = kept[name]
        done = subprocess.run(
            ["sh", "-c", f"{line} -Atc 'select count(*) from notes'"], stdout=subprocess.PIPE, text=True, check=True
        )
        assert done.stdout.strip() == notes
    project.assert_no_leases(kept=2)


@pytest.mark.long
def test_failed_test_without_keep_keeps_nothing(project: Project) -> None:
    project.file("test_it.py", FAILING)
    assert "0 kept" in project.run().output
    project.assert_no_leases(kept=0)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])
def test_each_process_has_temporary_directory_until_end(project: Project, workers: str) -> None:
    project.settings["pgdibs_tmpdir"] = "true"
    project.file(
        "test_it.py",
        """
import os, subprocess, tempfile, pathlib, pytest
@pytest.mark.parametrize("number", range(4))
def test_it(number, tmp_path):
    file = tempfile.mkstemp()[1]
    of_child = subprocess.run(["mktemp"], stdout=subprocess.PIPE, text=True).stdout.strip()
    assert os.path.dirname(file) == os.path.dirname(of_child) == os.environ["TMPDIR"]
    assert os.path.basename(os.environ["TMPDIR"]) == os.environ.get("PYTEST_XDIST_WORKER", "main")
    assert os.environ["TMPDIR"] not in str(tmp_path)
    (pathlib.Path("directory-" + os.environ.get("PYTEST_XDIST_WORKER", "main"))).write_text(os.environ["TMPDIR"])
    if number == 0 and "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(9)
""",
    )
    project.run(workers)
    directories = [Path(file.read_text()) for file in project.pytester.path.glob("directory-*")]
    assert len(directories) == (1 if workers == "-n0" else len(set(directories)))
    assert directories
    assert not any(directory.exists() or directory.parent.exists() for directory in directories)


@pytest.mark.long
def test_slots_are_distinct_small_integers(project: Project) -> None:
    project.file(
        "test_it.py",
        "import os, pytest\n@pytest.mark.parametrize('number', range(9))\ndef test_it(number):\n"
        "    open('slot-' + os.environ['PYTEST_XDIST_WORKER'], 'w').write(os.environ['PGDIBS_SLOT'])\n",
    )
    project.client.put_pool(project.pool, max=3)
    project.run("-n3").assert_passed(9)
    slots = [file.read_text() for file in project.pytester.path.glob("slot-*")]
    assert sorted(slots) == ["0", "1", "2"]


@pytest.mark.long
def test_header_and_summary_show_measured_times(project: Project) -> None:
    project.file("conftest.py", "import time\ntime.sleep(0.3)  # a slow import, which the summary must show\n")
    project.file("test_it.py", "def test_it(pgdibs_fresh_url):\n    pass\ndef test_that():\n    pass\n")
    number = r"(\d+\.\d+)"
    part = rf"{number} s \((\d+) %\)"
    for word, workers in (("built", "-n2"), ("reused", "-n2"), ("reused", "-n0")):
        ran = project.run(workers, "--dist=loadfile")
        ran.assert_passed(2)
        header = re.search(r"^pgdibs: .*$", ran.output, re.MULTILINE)
        assert header is not None, ran.output
        if workers == "-n2":
            source = f"pool {project.pool} at {project.daemon.url} (template built by `{project.settings['pgdibs_build']}`)"
            assert header[0] == f"pgdibs: workers lease from {source}"
        else:
            assert re.fullmatch(rf"pgdibs: leased {project.pool}_gw\d from {project.daemon.url}", header[0])
        count = "2 databases leased by 2 workers" if workers == "-n2" else "1 database leased"
        first = re.search(
            rf"^{count}, template {word} in {number} s, wait p50 {number} ms max {number} ms, 2 resets, 0 kept$",
            ran.output,
            re.MULTILINE,
        )
        assert first is not None, ran.output
        template, median, longest = map(float, first.groups())
        assert 0 < median <= longest < 60_000
        second = re.search(
            rf"^the run took {number} s: start-up and import {part}, waiting for databases {part}, template {part}, "
            rf"resets {part}, tests {part}(?:, idle workers {part}, at the end {number} s)?$",
            ran.output,
            re.MULTILINE,
        )
        assert second is not None, ran.output
        wall, *parts = map(float, filter(None, second.groups()))
        parts, shares = parts[0:12:2], parts[1:12:2]
        start_up, _waiting, on_template = parts[:3]
        assert start_up >= (0.6 if workers == "-n2" else 0.3)  # the controller imports first, then all workers
        assert template <= on_template + 0.05
        assert sum(parts) == pytest.approx(wall, abs=0.1)
        assert shares == pytest.approx([100 * each / wall for each in parts], abs=2)


@pytest.mark.long
def test_kept_database_is_unchanged_by_teardown(project: Project) -> None:
    project.file(
        "test_it.py",
        COUNT
        + """
@pytest.fixture
def cleaning():
    yield
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("truncate notes")
def test_it(cleaning):
    add_and_count()
    assert 0
""",
    )
    ran = project.run("--pgdibs-keep=failed")
    (url,) = re.findall(r"-+ pgdibs -+\npsql '([^']+)'", ran.output)
    with psycopg.connect(url) as connection:
        assert connection.execute("select body from notes").fetchall() == [("x",)]
