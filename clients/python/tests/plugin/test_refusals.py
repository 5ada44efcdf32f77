"""3.11: what is wrong with the daemon, the pool or the build is one `UsageError`, from the controller, with what to do."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from projects import Daemon, Project, eventually

QUIET = "def test_nothing():\n    pass\n"


@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n0", pytest.param("-n2", marks=pytest.mark.long)])
def test_each_refusal_is_told_once_with_the_way_out(project: Project, workers: str) -> None:
    project.file("test_it.py", QUIET)
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
        # A new schema each time, so that a build is needed wherever one can be.
        project.file("schema.sql", f"create table notes{number} (id int);\n")
        ran = project.run(workers, *arguments)
        assert ran.status == 4, ran.output
        assert len(ran.errors) == 1, ran.output
        for sentence in sentences:
            assert sentence in ran.output
        assert "INTERNALERROR" not in ran.output
        assert "Traceback" not in ran.output.partition("ERROR: pgdibs: ")[0]


@pytest.mark.long
def test_a_wrong_token_is_told_once(project: Project) -> None:
    with_token = Daemon(token="the-right-one")
    try:
        project.file("test_it.py", QUIET)
        project.environment.update(PGDIBS_URL=with_token.url, PGDIBS_TOKEN="the-wrong-one")
        ran = project.run("-n2")
        assert (ran.status, len(ran.errors)) == (4, 1)
        assert "set PGDIBS_TOKEN to the daemon's token" in ran.errors[0]
        project.environment["PGDIBS_TOKEN"] = "the-right-one"
        project.run("-n2").assert_passed(1)
    finally:
        with_token.remove()


@pytest.mark.long
def test_a_worker_that_gets_no_database_in_time_ends_the_run_with_one_sentence(project: Project) -> None:
    project.client.put_pool(project.pool, warm=1, spares=1, max=2)
    project.file("test_it.py", QUIET)
    project.run("-n0").assert_passed(1)
    taken = [project.client.lease(project.pool, worker=f"other{number}") for number in range(2)]
    try:
        ran = project.run("-n2", "--pgdibs-timeout", "1")
    finally:
        for lease in taken:
            lease.release()
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert "pool_exhausted" in ran.errors[0]
    assert ran.output.count("replacing crashed worker") == 0


@pytest.mark.long
def test_auto_that_comes_to_no_workers_is_told_and_not_run_without_a_database(project: Project) -> None:
    project.file("conftest.py", "def pytest_xdist_auto_num_workers(config):\n    return 0\n")
    project.file("test_it.py", QUIET)
    ran = project.run("-nauto")
    assert (ran.status, len(ran.errors)) == (4, 1), ran.output
    assert "xdist starts no workers here" in ran.errors[0]
    project.environment["PYTEST_XDIST_AUTO_NUM_WORKERS"] = "0"
    project.run("-nauto").assert_passed(1)


@pytest.mark.long
def test_the_programs_of_a_build_end_with_the_run(project: Project) -> None:
    project.settings["pgdibs_build"] = "sh -c 'echo $$ > builder; exec sleep 600'"
    project.file("test_it.py", QUIET)
    process = project.start("-n2")
    builder = int(eventually(lambda: project.text("builder").strip()))
    os.killpg(process.pid, signal.SIGINT)
    ran = project.finish(process)
    assert ran.status == 2, ran.output
    # Whoever inherits it may take a moment to bury it.
    states = ["ps", "-o", "stat=", "-p", str(builder)]
    eventually(lambda: subprocess.run(states, stdout=subprocess.PIPE).stdout.strip() in (b"", b"Z", b"Z+"))
