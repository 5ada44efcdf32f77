"""A run that is killed while a process of its tests writes, and the runs after it, beside the developer's own database.

The process lives on, as a worker does that a supervisor has started, and goes on writing to the URL that it was given.
It may write to the killed run's database until that lease ends, and nowhere afterwards; no later run sees a row of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pgdibs import Client

from developers_database import developers_database
from running import ROOT, Run, Running

POOL = os.environ.get("PGDIBS_POOL") or "shop_test"
STEP_SECONDS = 180.0
RUN_SECONDS = 600.0
# Each process takes seconds to import the application, so there are no more of them than it needs.
KILLED = ["-n", "1", "tests/until_killed.py"]
BESIDE_ITS_LEASES = ["tests/test_processes.py", "-k", "settings or worker"]
AFTER_ITS_LEASES = ["tests/test_lease.py"]


class NotSo(Exception):
    """Something was not as it has to be."""


def run_killed_and_again(python: str, client: Client) -> tuple[list[Run], list[str]]:
    """The runs after the killed one, and what was wrong."""
    with developers_database(python) as developers, project_with(developers.dotenv()) as directory:
        before = developers.dump()
        environment = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
        runs: list[Run] = []
        wrong: list[str] = []
        writer = Writer(directory / "writer.json")
        killed: set[str] = set()
        try:
            kill_a_run(python, directory, environment, writer)
            killed = {lease["id"] for lease in client.leases(pool=POOL)}
            # At once, while the leases of the killed run are live and the process writes to one of them.
            runs.append(run_to_the_end(python, BESIDE_ITS_LEASES, directory, environment))
            writer.wait_until(lambda now, then: now["written"] > then["written"], "the process went on writing")
            end(client, killed)
            refused = writer.wait_until(
                lambda now, then: now["refused"] > then["refused"] + 2, "the process was refused"
            )
            # The names of the killed run's databases are free now, and this run may get them.
            runs.append(run_to_the_end(python, AFTER_ITS_LEASES, directory, environment))
            after = writer.wait_until(lambda now, then: now["refused"] > then["refused"], "the process tried again")
            if after["written"] != refused["written"]:
                wrong.append(f"the process wrote {after['written'] - refused['written']} rows after it was refused")
        except NotSo as error:
            wrong.append(str(error))
            killed |= {lease["id"] for lease in client.leases(pool=POOL)}
        finally:
            writer.kill()
            end(client, killed)
        if developers.dump() != before:
            wrong.append("the developer's own database has changed")
        return runs, wrong


class Writer:
    """The process that a test has started (`tests/writer.py`), by the file in which it says how far it is."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def state(self) -> dict[str, Any]:
        """How many rows it has written, how often it was refused, and its process id."""
        if not self.file.exists():
            return {"pid": 0, "written": 0, "refused": 0}
        state: dict[str, Any] = json.loads(self.file.read_text())
        return state

    def wait_until(
        self, is_so: Callable[[dict[str, Any], dict[str, Any]], bool], what: str, running: Running | None = None
    ) -> dict[str, Any]:
        """Its state, once that has changed so; fails at the deadline, or when the run ends."""
        deadline, then = time.monotonic() + STEP_SECONDS, self.state()
        while not is_so(now := self.state(), then):
            has_ended = running is not None and running.process.poll() is not None
            if has_ended or time.monotonic() > deadline:
                raise NotSo(f"not so: {what}; it said {now}{running.output() if running is not None else ''}")
            time.sleep(0.02)  # the pause between two looks
        return now

    def kill(self) -> None:
        """End it, if it was started."""
        if pid := self.state()["pid"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def end(client: Client, leases: set[str]) -> None:
    """End leases, as whoever cleans up after a killed run does; those that have ended already are passed over."""
    while leases:
        client.ask("DELETE", f"/v1/leases/{leases.pop()}")


def kill_a_run(python: str, directory: Path, environment: dict[str, str], writer: Writer) -> None:
    """SIGKILL for pytest and all its workers, while the process writes."""
    running = Running(python, KILLED, directory, {**environment, "SHOP_WRITER": str(writer.file)})
    try:
        writer.wait_until(lambda now, _then: now["written"] >= 20, "a test has started the process", running)
    finally:
        os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        running.forget()


def run_to_the_end(python: str, arguments: list[str], directory: Path, environment: dict[str, str]) -> Run:
    """A run that nothing disturbs."""
    running = Running(python, arguments, directory, environment)
    try:
        running.process.wait(RUN_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(running.process.pid, signal.SIGKILL)
    run = Run(arguments, output=running.output(), ended_with=running.process.wait())
    running.forget()
    return run


@contextlib.contextmanager
def project_with(dotenv: str) -> Iterator[Path]:
    """A copy of the project with this `.env`."""
    with tempfile.TemporaryDirectory(prefix="shop-project-") as place:
        directory = Path(place) / ROOT.name
        shutil.copytree(ROOT, directory, ignore=shutil.ignore_patterns(".env", ".venv", "__pycache__", ".*_cache"))
        (directory / ".env").write_text(dotenv)
        yield directory
