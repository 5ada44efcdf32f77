"""Killed runs, dead workers and Ctrl-C with Django."""

from __future__ import annotations

import os
import signal

import pytest
from django_projects import PLUGINS, DjangoProject
from projects import eventually

WAITS = """
import os, pathlib, signal, time, pytest
from notes.models import Note
@pytest.mark.parametrize("number", range(4))
@pytest.mark.django_db(transaction=True)
def test_it(number):
    Note.objects.create(body="left behind")
    pathlib.Path(f"started-{number}").write_text("x")
    deadline = time.monotonic() + 60
    while not pathlib.Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # the pause between two polls
    if number == 0 and pathlib.Path("die").exists():
        pathlib.Path("die").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.long
def test_killed_run_does_not_block_the_next(project: DjangoProject) -> None:
    project.file("test_it.py", WAITS)
    killed = project.start("-n2", plugins=PLUGINS)
    eventually(lambda: project.text("started-0"))
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    project.file("go", "")
    project.run_django("-n2").assert_passed(4)
    for lease in [lease for pool in project.pools for lease in project.client.leases(pool=pool)]:
        project.client.call("DELETE", f"/v1/leases/{lease['id']}")


@pytest.mark.long
def test_dead_worker_is_replaced_with_clean_databases(project: DjangoProject) -> None:
    project.file("test_it.py", WAITS)
    project.file("go", "")
    project.file("die", "")
    ran = project.run_django("-n2")
    assert (ran.counted("passed"), ran.counted("failed")) == (3, 1), ran.output
    assert "crashed while running" in ran.output


@pytest.mark.long
def test_ctrl_c_releases_all_leases(project: DjangoProject) -> None:
    project.file("test_it.py", WAITS)
    running = project.start("-n2", plugins=PLUGINS)
    eventually(lambda: project.text("started-0"))
    os.killpg(running.pid, signal.SIGINT)
    assert project.finish(running).status == 2
