"""Errors of the daemon, the pool or the build are one `UsageError` with a hint."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from projects import Daemon, Project, eventually

PASSES = "def test_nothing():\n    pass\n"


@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])
def test_each_error_is_reported_once_with_hint(project: Project, workers: str) -> None:
    project.file("test_it.py", PASSES)
    project.run("-n0").assert_passed(1)
    no_build = ["-o", "pgdibs_fingerprint=", "-o", "pgdibs_build="]
    cases = [
        (
            ["--pgdibs-url", "http://127.0.0.1:1"],
            ["no pgdibs daemon answers at http://127.0.0.1:1", "pgdibs serve", "pgdibs_start = auto"],
        ),
        (["--pgdibs-pool", "no_such_pool", *no_build], ['no pool "no_such_pool"', "pgdibs_fingerprint and pgdibs_build"]),
        (["-o", "pgdibs_build=no-such-program x"], ["`no-such-program x` (pgdibs_build) did not start: "]),
        (["-o", "pgdibs_build=cat no-such-file"], ["`cat no-such-file` (pgdibs_build) ended with 1 and printed:"]),
        (["-o", "pgdibs_build="], ["nothing says how to build the template: set pgdibs_build to a command"]),
    ]
    if workers == "-n2":
        cases.append((["-n9"], [f'9 databases at once do not fit pool "{project.pool}"', "`max` is 8", "--max 9"]))
    for number, (arguments, sentences) in enumerate(cases):
        # A new schema each time, so that each case needs a build.
        project.file("schema.sql", f"create table notes{number} (id int);\n")
        ran = project.run(workers, *arguments)
        assert ran.status == 4, ran.output
        assert len(ran.errors) == 1, ran.output
        for sentence in sentences:
            assert sentence in ran.output
        assert "INTERNALERROR" not in ran.output
        assert "Traceback" not in ran.output.partition("ERROR: pgdibs: ")[0]


@pytest.mark.long
def test_wrong_token_is_reported_once(project: Project) -> None:
    with_token = Daemon(token="the-right-one")
    try:
        project.file("test_it.py", PASSES)
        project.environment.update(PGDIBS_URL=with_token.url, PGDIBS_TOKEN="the-wrong-one")
        ran = project.run("-n2")
        assert (ran.status, len(ran.errors)) == (4, 1)
        assert "set PGDIBS_TOKEN to the daemon's token" in ran.errors[0]
        project.environment["PGDIBS_TOKEN"] = "the-right-one"
        project.run("-n2").assert_passed(1)
    finally:
        with_token.remove()


@pytest.mark.long
def test_worker_without_database_ends_run_with_one_error(project: Project) -> None:
    project.client.put_pool(project.pool, warm=1, spares=1, max=2)
    project.file("test_it.py", PASSES)
    project.run("-n0").assert_passed(1)
    leases = [project.client.lease(project.pool, worker=f"other{number}") for number in range(2)]
    try:
        ran = project.run("-n2", "--pgdibs-timeout", "1")
    finally:
        for lease in leases:
            lease.release()
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert "pool_exhausted" in ran.errors[0]
    assert ran.output.count("replacing crashed worker") == 0


@pytest.mark.long
def test_auto_without_workers_is_an_error(project: Project) -> None:
    project.file("conftest.py", "def pytest_xdist_auto_num_workers(config):\n    return 0\n")
    project.file("test_it.py", PASSES)
    ran = project.run("-nauto")
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert "xdist starts no workers here" in ran.errors[0]
    project.environment["PYTEST_XDIST_AUTO_NUM_WORKERS"] = "0"
    project.run("-nauto").assert_passed(1)


@pytest.mark.long
def test_build_command_ends_with_the_run(project: Project) -> None:
    project.settings["pgdibs_build"] = "sh -c 'echo $$ > builder; exec sleep 600'"
    project.file("test_it.py", PASSES)
    process = project.start("-n2")
    builder = int(eventually(lambda: project.text("builder").strip()))
    os.killpg(process.pid, signal.SIGINT)
    ran = project.finish(process)
    assert ran.status == 2, ran.output
    # Its new parent may take a moment to reap it.
    states = ["ps", "-o", "stat=", "-p", str(builder)]
    eventually(lambda: subprocess.run(states, stdout=subprocess.PIPE).stdout.strip() in (b"", b"Z", b"Z+"))
