"""The controller ends the run and its leases: dead workers, signals, early stops, expiry."""

from __future__ import annotations

import os
import signal

import psycopg
import pytest
from projects import Project, eventually

from pgdibs.errors import RunEnded

CONFTEST = """
import os, pathlib
pathlib.Path("url-" + os.environ.get("PYTEST_XDIST_WORKER", "main")).write_text(os.environ["DATABASE_URL"])
"""
DYING = """
import json, os, pathlib, psycopg, pytest, signal, time, urllib.request
who = os.environ.get("PYTEST_XDIST_WORKER")
@pytest.mark.parametrize("number", range(12))
def test_it(number, pgdibs_url):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("insert into notes (body) values (%s)", [who])
        assert connection.execute("select distinct body from notes").fetchall() == [(who,)]
    if number == 3 and not pathlib.Path("died").exists():
        pathlib.Path("died").write_text(who)
        DIE
def test_lease_of_dead_worker_is_gone():
    pool = os.environ["DATABASE_URL"].rpartition("/")[2].rpartition("_")[0]
    deadline = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(os.environ["PGDIBS_URL"] + "/v1/leases?pool=" + pool) as answer:
            workers = {lease["worker"] for lease in json.load(answer)["leases"]}
        if workers == {"gw0", "gw1", "gw2"} - {pathlib.Path("died").read_text()}:
            return
        assert time.monotonic() < deadline, workers
        time.sleep(0.02)  # the pause between two polls
"""


@pytest.mark.parametrize("death", [pytest.param("os._exit(9)", marks=pytest.mark.long), "os.kill(os.getpid(), signal.SIGKILL)"])
def test_lease_of_dead_worker_is_released_at_once(project: Project, death: str) -> None:
    project.file("conftest.py", CONFTEST)
    project.file("test_it.py", DYING.replace("DIE", death))
    ran = project.run("-n2")
    assert (ran.status, ran.counted("passed"), ran.counted("failed")) == (1, 12, 1), ran.output
    assert f"worker '{project.text('died')}' crashed while running" in ran.output
    assert f"/{project.pool}_gw" in project.text("url-gw2")
    project.assert_no_leases()


SLOW = """
import pathlib, os, time, pytest
@pytest.mark.parametrize("number", range(2))
def test_slow(number, pgdibs_url):
    pathlib.Path(f"slow-{number}").write_text(str(os.getpid()))
    deadline = time.monotonic() + 60
    while not pathlib.Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # the pause between two polls
"""


@pytest.mark.parametrize("workers", ["-n2", pytest.param("-n0", marks=pytest.mark.long)])
def test_ctrl_c_releases_all_leases(project: Project, workers: str) -> None:
    project.file("test_slow.py", SLOW)
    process = project.start(workers)
    eventually(lambda: project.text("slow-0") and (workers == "-n0" or project.text("slow-1")))
    os.killpg(process.pid, signal.SIGINT)
    ran = project.finish(process)
    assert ran.status == 2
    assert "INTERNALERROR" not in ran.output
    project.assert_no_leases()


@pytest.mark.long
@pytest.mark.parametrize("workers", ["-n2", "-n0"])
def test_sigterm_releases_all_leases_and_ends_pytest(project: Project, workers: str) -> None:
    project.file("test_slow.py", SLOW)
    process = project.start(workers)
    eventually(lambda: project.text("slow-0") and (workers == "-n0" or project.text("slow-1")))
    os.kill(process.pid, signal.SIGTERM)
    ran = project.finish(process)
    assert ran.status == -signal.SIGTERM, ran.output
    # Long before the time to live of 60 s.
    project.assert_no_leases()


@pytest.mark.parametrize("workers", ["-n2", pytest.param("-n0", marks=pytest.mark.long)])
def test_leases_expire_after_sigkill_of_all_processes(project: Project, workers: str) -> None:
    project.file("short_life.py", "import pgdibs.plugin.databases\npgdibs.plugin.databases.TTL_SECONDS = 5\n")
    project.file("test_slow.py", SLOW)
    process = project.start(workers, "-p", "short_life")
    eventually(lambda: project.text("slow-0") and (workers == "-n0" or project.text("slow-1")))
    assert len(project.leases()) == (2 if workers == "-n2" else 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    eventually(lambda: project.leases() == [])


def test_failing_conftest_leaves_no_lease(project: Project) -> None:
    project.file("conftest.py", "raise RuntimeError('no such luck')\n")
    project.file("test_it.py", "def test_nothing():\n    pass\n")
    assert project.run("-n0").status == 4
    project.assert_no_leases()
    # In workers only: the controller runs until they have ended.
    project.file("conftest.py", "import os\nif 'PYTEST_XDIST_WORKER' in os.environ:\n    raise RuntimeError('no such luck')\n")
    assert project.run("-n2", "--max-worker-restart=0").status != 0
    project.assert_no_leases()


@pytest.mark.long
def test_early_stop_leaves_no_lease(project: Project) -> None:
    project.file("test_it.py", "def test_one():\n    assert 0\n")
    assert project.run("-n2", "-x").status in (1, 2)
    project.assert_no_leases()
    project.file("test_it.py", "import pytest\ndef test_one():\n    pytest.exit('enough', returncode=7)\n")
    assert project.run("-n0").status == 7
    project.assert_no_leases()


@pytest.mark.long
def test_controller_renews_leases_of_stopped_worker(project: Project) -> None:
    project.file(
        "short_life.py",
        "import pgdibs.plugin.databases, pgdibs.plugin.controller\n"
        "pgdibs.plugin.databases.TTL_SECONDS = 2\npgdibs.plugin.controller.RENEW_EVERY_SECONDS = 0.5\n",
    )
    project.file("test_slow.py", SLOW)
    process = project.start("-n1", "-p", "short_life")
    worker = int(eventually(lambda: project.text("slow-0")))
    os.kill(worker, signal.SIGSTOP)
    (before,) = project.leases()
    eventually(lambda: renewals(project, before["id"]) > before["expires_at"])
    # Three times its time to live; without the controller the lease would have expired.
    later = eventually(lambda: renewals_beyond(project, before, 6))
    os.kill(worker, signal.SIGCONT)
    project.file("go", "")
    project.finish(process).assert_passed(2)
    assert later


def renewals(project: Project, lease: str) -> str:
    """`expires_at` of the lease, which must be live."""
    shown = project.client.call("GET", f"/v1/leases/{lease}")
    assert shown["state"] == "live", shown
    until: str = shown["expires_at"]
    return until


def renewals_beyond(project: Project, before: dict[str, str], seconds: float) -> bool:
    """Whether renewals have moved the end of the lease by so many seconds."""
    from datetime import datetime

    ends = [
        datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (before["expires_at"], renewals(project, before["id"]))
    ]
    return (ends[1] - ends[0]).total_seconds() >= seconds


def test_concurrent_runs_share_no_database(project: Project) -> None:
    project.file("schema.sql", "create table notes (body text); create table built (at timestamptz default now());\n")
    project.settings["pgdibs_build"] = "sh -c 'echo built >> builds; psql -qf schema.sql'"
    project.file(
        "test_it.py",
        """
import os, pathlib, psycopg, pytest, uuid
@pytest.mark.parametrize("number", range(10))
def test_it(number, pgdibs_lease):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("insert into notes values (%s)", [pgdibs_lease.id])
        assert connection.execute("select count(distinct body) from notes").fetchone() == (1,)
    with open("databases-" + pgdibs_lease.id, "w") as file:
        file.write(pgdibs_lease.database)
""",
    )
    project.client.put_pool(project.pool, warm=4, spares=1, max=8)
    processes = [project.start("-n2", "--testrunuid", "the-same-for-both") for _ in range(2)]
    for process in processes:
        project.finish(process).assert_passed(10)
    assert project.text("builds") == "built\n"
    project.assert_no_leases()


@pytest.mark.long
def test_login_ends_with_its_lease(project: Project) -> None:
    project.file("test_it.py", "import os\ndef test_it():\n    open('url', 'w').write(os.environ['DATABASE_URL'])\n")
    project.run("-n1").assert_passed(1)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(project.text("url"))


@pytest.mark.long
def test_ended_run_grants_no_lease(project: Project) -> None:
    project.file("test_it.py", "def test_it(pgdibs_lease):\n    open('run', 'w').write(pgdibs_lease.run)\n")
    project.run("-n1").assert_passed(1)
    with pytest.raises(RunEnded):
        project.client.lease(project.pool, run=project.text("run"), worker="straggler", deadline_seconds=5.0)
