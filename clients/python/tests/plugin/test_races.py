"""Races between runs, workers and the daemon that break other test suites."""

from __future__ import annotations

import os
import re
import signal

import psycopg
import pytest
from projects import Daemon, Project, eventually

WRITES = """
import os, psycopg, pytest
@pytest.mark.parametrize("number", range(8))
def test_it(number, pgdibs_lease):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        assert connection.execute("select current_database()").fetchone() == (pgdibs_lease.database,)
        connection.execute("insert into notes (body) values (%s)", [pgdibs_lease.id])
        assert connection.execute("select distinct body from notes").fetchall() == [(pgdibs_lease.id,)]
    with open("used-" + pgdibs_lease.id, "w") as file:
        file.write(pgdibs_lease.database)
"""
WAITS = """
import os, pathlib, time, psycopg, pytest
@pytest.mark.parametrize("number", range(2))
def test_waiting(number, pgdibs_lease):
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("insert into notes (body) values ('waiting')")
        pathlib.Path(f"waiting-{number}").write_text(os.environ["DATABASE_URL"])
        deadline = time.monotonic() + 60
        while not pathlib.Path("go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)  # the pause between two polls
        assert connection.execute("select count(*) from notes").fetchone()[0] >= 1
"""
SHORT_LIFE = "import pgdibs.plugin.databases\npgdibs.plugin.databases.TTL_SECONDS = 2\n"


def both_wait(project: Project) -> bool:
    """Whether both tests of WAITS are running."""
    return bool(project.text("waiting-0") and project.text("waiting-1"))


@pytest.mark.long
def test_killed_run_does_not_block_the_next(project: Project) -> None:
    project.file("test_it.py", WAITS)
    process = project.start("-n2")
    eventually(lambda: both_wait(project))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    project.file("test_it.py", WRITES)
    project.run("-n2").assert_passed(8)  # while the leases of the dead run are still live
    for lease in project.leases():
        project.client.call("DELETE", f"/v1/leases/{lease['id']}")


@pytest.mark.long
def test_concurrent_runs_create_no_database(project: Project) -> None:
    project.file("test_it.py", WRITES)
    processes = [project.start("-n2"), project.start("-n2")]
    for process in processes:
        ran = project.finish(process)
        ran.assert_passed(8)
        assert not re.search(r"already exists|pg_database_datname_index", ran.output)


@pytest.mark.long
def test_leaked_connection_does_not_block_cleanup(project: Project) -> None:
    project.file("schema.sql", "create table notes (body text);\n")
    project.file(
        "test_it.py",
        '''
import os, pathlib, subprocess, sys, time
LEAK = """
import os, time, psycopg
leaked = psycopg.connect(os.environ["DATABASE_URL"])
leaked.execute("select 1")
# One byte without a newline, because a second write would fail when the test has closed the pipe.
os.write(1, b"1")
time.sleep(600)  # until the test kills it
"""
def test_it():
    child = subprocess.Popen([sys.executable, "-c", LEAK], stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.read(1)
    pathlib.Path("leaking").write_text(str(child.pid))
''',
    )
    project.run("-n0").assert_passed(1)
    try:
        project.assert_no_leases()
    finally:
        os.kill(int(project.text("leaking")), signal.SIGKILL)


@pytest.mark.long
def test_lease_login_cannot_connect_to_template(project: Project) -> None:
    project.file("test_it.py", WRITES)
    project.run("-n0").assert_passed(8)
    pool = project.client.call("GET", f"/v1/pools/{project.pool}")
    template = pool["templates"][0]["database"]
    lease = project.client.lease(project.pool)
    try:
        with pytest.raises(psycopg.OperationalError, match=r"not currently accepting connections|permission denied"):
            psycopg.connect(lease.url.replace(lease.database, template))
    finally:
        lease.release()


@pytest.mark.long
def test_more_workers_than_warm_databases_pass(project: Project) -> None:
    project.client.put_pool(project.pool, warm=0, spares=0, max=8)
    project.file("test_it.py", WRITES)
    ran = project.run("-n4")
    ran.assert_passed(8)
    assert "does not exist" not in ran.output


@pytest.mark.long
def test_run_within_another_run_takes_no_database(project: Project) -> None:
    project.file("test_waiting.py", WAITS)
    project.file("test_it.py", WRITES)
    first = project.start("-n2", "test_waiting.py")
    eventually(lambda: both_wait(project))
    project.run("-n2", "test_it.py").assert_passed(8)
    project.file("go", "")
    project.finish(first).assert_passed(2)


@pytest.mark.long
def test_changed_schema_uses_new_template(project: Project) -> None:
    project.file("test_it.py", WRITES)
    project.run("-n2").assert_passed(8)
    project.file("schema.sql", "create table notes (body text, extra text default 'new');\n")
    project.file(
        "test_it.py", WRITES.replace("select distinct body from notes", "select distinct body from notes where extra = 'new'")
    )
    project.run("-n2").assert_passed(8)


@pytest.mark.long
def test_workers_never_share_a_database(project: Project) -> None:
    project.file("test_it.py", WRITES)
    project.run("-n4", "--dist=each").assert_passed(32)
    used = [file.read_text() for file in project.pytester.path.glob("used-*")]
    assert len(used) == len(set(used)) == 4


@pytest.mark.long
def test_replacement_workers_get_databases(project: Project) -> None:
    project.client.put_pool(project.pool, max=2)
    project.file(
        "test_it.py",
        WRITES + "\n@pytest.mark.parametrize('number', range(3))\ndef test_dies(number):\n    os._exit(9)\n",
    )
    ran = project.run("-n2")
    assert (ran.counted("passed"), ran.counted("failed")) == (8, 3), ran.output
    assert "crashed while running" in ran.output


def test_old_url_does_not_reach_next_lease(project: Project) -> None:
    project.file("test_it.py", "import os\ndef test_it(pgdibs_lease):\n    open('old', 'w').write(pgdibs_lease.url)\n")
    project.client.put_pool(project.pool, warm=1, max=1)
    project.run("-n1").assert_passed(1)
    project.file("test_waiting.py", WAITS)
    process = project.start("-n1", "test_waiting.py")
    eventually(lambda: project.text("waiting-0"))
    old, new = project.text("old"), project.text("waiting-0")
    assert old.rpartition("/")[2] == new.rpartition("/")[2]  # the same name
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(old)
    project.file("go", "")
    project.finish(process).assert_passed(2)


@pytest.mark.long
def test_engine_built_in_conftest_uses_lease(project: Project) -> None:
    project.file("app.py", "import os, sqlalchemy\nengine = sqlalchemy.create_engine(os.environ['DATABASE_URL'])\n")
    project.file("conftest.py", "import sys\nsys.path.insert(0, '.')\nimport app\n")
    project.environment["DATABASE_URL"] = "postgresql+psycopg://developer@real.example/real"
    project.file(
        "test_it.py",
        """
import app, pytest, sqlalchemy
@pytest.mark.parametrize("number", range(4))
def test_it(number, pgdibs_lease):
    with app.engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("select current_database()")) == pgdibs_lease.database
""",
    )
    project.run("-n2").assert_passed(4)


@pytest.mark.long
def test_more_workers_than_max_are_refused(project: Project) -> None:
    project.file("test_it.py", WRITES)
    project.run("-n0").assert_passed(8)
    ran = project.run("-n9")
    assert (ran.status, len(ran.errors)) == (4, 1)
    assert "`max` is 8" in ran.errors[0]
    assert not re.search("too many clients|out of shared memory", ran.output)


@pytest.mark.long
def test_daemon_killed_during_swaps_leaves_all_slots_open(project: Project, daemon: Daemon) -> None:
    project.file(
        "test_it.py",
        """
import os, pathlib, psycopg, pytest
@pytest.mark.parametrize("number", range(30))
def test_it(number, pgdibs_fresh_url):
    with psycopg.connect(pgdibs_fresh_url) as connection:  # the name must exist directly after a reset
        assert connection.execute("select count(*) from notes").fetchone() == (0,)
        connection.execute("insert into notes (body) values ('x')")
    pathlib.Path(f"done-{number}").write_text("x")
""",
    )
    process = project.start("-n2")
    for number in (5, 12):
        eventually(lambda number=number: project.text(f"done-{number}"))  # type: ignore[misc]
        daemon.process.kill()
        daemon.start()
    project.finish(process).assert_passed(30)
    project.file("test_it.py", WRITES)
    project.run("-n4").assert_passed(8)  # every slot accepts connections


@pytest.mark.long
def test_lock_of_dead_worker_blocks_no_test(project: Project) -> None:
    project.client.put_pool(project.pool, max=2)
    project.file(
        "test_it.py",
        '''
import os, pathlib, psycopg, pytest, subprocess, sys
HOLD = """
import os, time, psycopg
holding = psycopg.connect(os.environ["DATABASE_URL"])
holding.execute("lock table notes")
os.write(1, b"1")  # without a newline, as above
time.sleep(60)  # until the test kills it
"""
def test_dies_with_a_lock_held_by_its_child():
    errors = pathlib.Path("holder-errors")
    with errors.open("w") as output:
        child = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, stderr=output, start_new_session=True)
    assert child.stdout.read(1) == b"1", errors.read_text()
    pathlib.Path("holder").write_text(str(child.pid))
    os._exit(9)
@pytest.mark.parametrize("number", range(4))
def test_truncates(number):
    with psycopg.connect(os.environ["DATABASE_URL"], options="-c lock_timeout=30s") as connection:
        connection.execute("truncate notes restart identity")
''',
    )
    ran = project.run("-n1")
    os.kill(int(project.text("holder")), signal.SIGKILL)
    assert (ran.counted("passed"), ran.counted("failed")) == (4, 1), ran.output
