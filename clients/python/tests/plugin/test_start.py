"""`pgdibs_start = auto` starts one daemon for concurrent runs, and leaves it running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

from daemon_process import free_port, fresh_data_directory, postgres_programs
from projects import Daemon, Project, eventually


def test_two_runs_without_daemon_start_one(project: Project, daemon: Daemon) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    data = fresh_data_directory()
    project.environment.update(
        PGDIBS_URL=url, PGDIBS_BIN=daemon.program, PGDIBS_DATA_DIR=str(data / "data"), PGDIBS_PG_BIN_DIR=postgres_programs()
    )
    project.file("test_it.py", "import os\ndef test_it():\n    assert os.environ['DATABASE_URL']\n")
    assert "set `pgdibs_start = auto`" in project.run("-n0").errors[0]
    project.settings["pgdibs_start"] = "auto"
    processes = [project.start("-n0"), project.start("-n0")]
    try:
        runs = [project.finish(process) for process in processes]
        for ran in runs:
            ran.assert_passed(1)
        assert sum(ran.output.count(f"pgdibs: starting a daemon at {url}; its log is /") for ran in runs) == 1
        project.run("-n0").assert_passed(1)
        assert len(daemons(url)) == 1
    finally:
        for pid in daemons(url):
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not daemons(url))
        shutil.rmtree(data, ignore_errors=True)


def daemons(url: str) -> list[int]:
    """The daemons with this address in their command lines."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if f"serve --listen {url.rpartition('/')[2]}" in line]
