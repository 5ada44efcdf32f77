"""What a run prints while it waits: for a build, for the build of another run, for a database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from projects import BUILD, Project, eventually

from pgdibs.plugin import build_process

TO_FILE = ["sh", "-c", 'exec "$@" 2>waits.txt', "sh"]
"""A command that runs another one with standard error in a file, because the output is read only at the end."""


@pytest.mark.parametrize("arguments", [["-n1"], pytest.param(["-n0", "-o", "pgdibs_env="], marks=pytest.mark.long)], ids=str)
def test_exhausted_pool_and_build_are_printed_at_once(project: Project, arguments: list[str]) -> None:
    project.file("test_it.py", HOLDS)
    project.settings["pgdibs_build"] = f"sh -c 'until [ -e go ]; do read line <wake; done; {BUILD}'"
    os.mkfifo(project.pytester.path / "wake")
    project.client.put_pool(project.pool, max=1)
    process = project.start(*arguments, within=TO_FILE)
    building = f"pgdibs: building the template of pool {project.pool} with `{project.settings['pgdibs_build']}` (pgdibs_build)\n"
    eventually(lambda: building in project.text("waits.txt"))
    # Another process waits for the same build, then for the only database.
    other = project.start(*arguments, within=["sh", "-c", 'exec "$@" 2>other.txt', "sh"])
    eventually(lambda: "has been building this template since" in project.text("other.txt"))
    project.file("go", "")
    (project.pytester.path / "wake").write_text("\n")
    eventually(lambda: f"{project.pool}_gw0" in project.text("waits.txt") + project.text("other.txt"))
    project.file("done", "")
    for each in (process, other):
        project.finish(each).assert_passed(1)
    who = "gw0: " if arguments == ["-n1"] else ""
    text = project.text("waits.txt") + project.text("other.txt")
    assert f"pgdibs: {who}waiting: " in text
    assert text.count("building the template") == 1


HOLDS = """
import pathlib, time
def test_it(pgdibs_url):
    deadline = time.monotonic() + 60
    while not pathlib.Path("done").exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # the pause between two polls
"""


def test_long_build_prints_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_process, "AGAIN_SECONDS", 0.05)
    os.mkfifo(tmp_path / "wake")
    said: list[str] = []

    def print_line(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            (tmp_path / "wake").write_text("\n")

    command = ["sh", "-c", "echo running 0001; echo running 0002; read line <wake; echo bye; exit 3"]
    assert build_process.run_build(command, tmp_path, os.environ, 60, print_line) == (3, ["running 0001", "running 0002", "bye"])
    assert said[-1] == "still building after 0 s: running 0002"
