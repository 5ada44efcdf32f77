"""A Postgres of a benchmark's own: a new cluster on a free port, fast or durable; stopped and deleted at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))
from daemon_process import free_port, postgres_programs

SETTINGS = {
    "fast": ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"),
    # The defaults, as in a container of CI.
    "durable": (),
}
READY_SECONDS = 60.0


@contextmanager
def own_postgres(kind: str) -> Iterator[str]:
    """The URL of a superuser on a new server with the settings of that kind."""
    programs, port = postgres_programs(), free_port()
    directory = Path(tempfile.mkdtemp(prefix="pgdibs-bench-", dir="/tmp"))
    # Postgres refuses to run as root.
    user = "postgres" if os.getuid() == 0 else None
    if user is not None:
        shutil.chown(directory, user)
    data = str(directory / "data")
    initdb = [f"{programs}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    subprocess.run(initdb, user=user, cwd=directory, stdout=subprocess.DEVNULL, check=True)
    listen = ("-p", str(port), "-h", "127.0.0.1", "-k", str(directory), "-c", "max_connections=200")
    command = [f"{programs}/postgres", "-D", data, *listen, *SETTINGS[kind]]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(command, user=user, cwd=directory, stdout=log, stderr=log)
    try:
        wait_until_ready([f"{programs}/pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"], server, directory / "log")
        yield f"postgresql://postgres:none@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(directory)


def wait_until_ready(probe: list[str], server: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server accepts connections, at most a minute."""
    deadline = time.monotonic() + READY_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if subprocess.run(probe, check=False).returncode == 0:
            return
        time.sleep(0.05)  # the pause between two polls
    raise SystemExit(f"Postgres was not ready within {READY_SECONDS:.0f} s:\n{log.read_text(errors='replace')[-2000:]}")
