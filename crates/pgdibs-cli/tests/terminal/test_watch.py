"""`pgdibs status --watch` in a real terminal: tmux sends the keys and shows what stands on the screen."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import postgres_programs, program
from stage import Stage, until


class Terminal:
    """A window of a tmux of its own, with a shell that starts the screen."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = f"pgdibs-{os.getpid()}-{name}"
        variables = {**stage.daemon.variables, "PATH": f"{postgres_programs()}:{os.environ['PATH']}", "PSQLRC": "/dev/null"}
        environment = [part for pair in variables.items() for part in ("-e", "=".join(pair))]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "30", *environment, "bash --norc")
        self.keys("PS1='$ '", "Enter")
        self.keys(f'{program()} status --watch; echo "ended with $?"', "Enter")
        self.expect("q quit")

    def tmux(self, *arguments: str) -> str:
        """The output of tmux."""
        done = subprocess.run(["tmux", "-L", self.name, *arguments], check=True, capture_output=True, text=True, timeout=20)
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Types keys; names such as Enter are those of tmux."""
        self.tmux("send-keys", *keys)

    def text(self) -> str:
        """What stands on the screen."""
        return self.tmux("capture-pane", "-p")

    def expect(self, part: str) -> None:
        """Waits until this stands on the screen."""
        self.expect_that(f"the screen shows {part!r}", lambda text: part in text)

    def expect_that(self, what: str, holds: Any) -> None:
        """Waits until the text of the screen is right."""
        try:
            until(what, lambda: holds(self.text()))
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.text()}") from None

    def expect_shell(self, status: int) -> None:
        """The screen has ended, and the terminal is as before: its text is back, the cursor is shown, what is typed is echoed."""
        self.expect(f"ended with {status}")
        assert "status --watch" in self.text(), "the text from before is back"
        assert self.tmux("display-message", "-p", "#{cursor_flag} #{alternate_on}").split() == ["1", "0"]
        self.keys("echo typed", "Enter")
        self.expect_that("what is typed is echoed", lambda text: re.search(r"^\$ echo typed$\n^typed$", text, re.M))

    def close(self) -> None:
        """Ends this tmux."""
        self.tmux("kill-server")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A daemon with a pool of four slots."""
    stage = Stage()
    stage.pool("shop_test", warm=4, max=4, spares=1)
    yield stage
    stage.close()


@pytest.fixture
def terminal(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A terminal that shows the screen."""
    terminal = Terminal(stage, request.node.name[:40])
    yield terminal
    terminal.close()


@pytest.fixture
def leases(stage: Stage) -> Iterator[list[dict[str, Any]]]:
    """Three leases of two runs. Their slots are 0 to 2 as a rule: a row that is locked at that moment is left out."""
    until("each slot is ready", lambda: stage.call("GET", "/v1/pools/shop_test")["counts"]["ready"] == 4)
    leases = [
        stage.lease("shop_test", run=run, worker=worker, holder=f"{run}/pid 4312/{worker}", wait_seconds=30)
        for run, worker in (("ci-7", "gw0"), ("ci-7", "gw1"), ("ci-9", "gw2"))
    ]
    yield leases
    for lease in leases:
        stage.call("DELETE", f"/v1/leases/{lease['id']}")


def test_screen_shows_and_quits(terminal: Terminal, leases: list[dict[str, Any]]) -> None:
    for part in ("Ready", "3 leased", "ci-9/pid 4312/gw2", name(leases[2])):
        terminal.expect(part)
    terminal.expect_that("a character for each slot", lambda text: sorted(slots(text)) == ["L", "L", "L", "r"])
    terminal.keys("?")
    terminal.expect("release it: its holder loses it at once")
    terminal.keys("x", "q")
    terminal.expect_shell(0)


def name(lease: dict[str, Any]) -> str:
    """The database of a lease."""
    return str(lease["database"])


def slots(text: str) -> str:
    """The characters of the slots of the pool."""
    found = re.search(r"^shop_test  (\S+)", text, re.M)
    return found[1] if found else ""


def test_rows_are_sorted_and_filtered(terminal: Terminal, leases: list[dict[str, Any]]) -> None:
    terminal.expect("DATABASE▾")
    terminal.expect(name(leases[2]))
    terminal.keys("s")
    terminal.expect("HELD FOR▾")
    terminal.keys("/", "ci-9", "Enter")
    terminal.expect_that("one row is left", lambda text: name(leases[2]) in text and name(leases[0]) not in text)
    terminal.expect('rows with "ci-9"')
    terminal.keys("Escape")
    terminal.expect(name(leases[0]))


def test_release_asks_first(stage: Stage, terminal: Terminal, leases: list[dict[str, Any]]) -> None:
    terminal.expect(name(leases[2]))
    terminal.keys("/", "ci-9", "Enter", "r")
    terminal.expect(f"release {name(leases[2])}? ci-9/pid 4312/gw2 loses it at once")
    terminal.keys("n")
    terminal.expect("nothing was released")
    assert name(leases[2]) in stage.live()
    terminal.keys("r", "y")
    terminal.expect(f"released {name(leases[2])}")
    terminal.expect("nothing matches the filter")
    assert name(leases[2]) not in stage.live()


def test_keep_asks_why(stage: Stage, terminal: Terminal, leases: list[dict[str, Any]]) -> None:
    terminal.expect(name(leases[0]))
    terminal.keys("k")
    terminal.expect(f"keep {name(leases[0])} for an hour; why:")
    terminal.keys("-l", "test_refund failed")
    terminal.keys("Enter")
    terminal.expect(f"{name(leases[0])} will stay as shop_test_kept_")
    stage.call("DELETE", f"/v1/leases/{leases[0]['id']}")
    terminal.expect("kept: test_refund failed")
    for kept in stage.kept():
        stage.call("DELETE", f"/v1/databases/{kept}")


def test_psql_takes_the_terminal_and_gives_it_back(terminal: Terminal, leases: list[dict[str, Any]]) -> None:
    terminal.expect(name(leases[1]))
    terminal.keys("Down", "p")
    terminal.expect(f"{name(leases[1])}=")
    # Ctrl-C is for psql.
    terminal.keys("C-c")
    terminal.keys("-l", "select current_database() || ' answers' \\g")
    terminal.keys("Enter")
    terminal.expect(f"{name(leases[1])} answers")
    terminal.keys("-l", "\\q")
    terminal.keys("Enter")
    terminal.expect(f"left psql on {name(leases[1])}")
    terminal.keys("q")
    terminal.expect_shell(0)


def test_screen_follows_size_and_daemon(stage: Stage, terminal: Terminal, leases: list[dict[str, Any]]) -> None:
    terminal.expect("ci-9/pid 4312/gw2")
    terminal.tmux("resize-window", "-x", "60", "-y", "12")
    terminal.expect_that("the screen is narrow", lambda text: name(leases[0]) in text and "CONN" not in text)
    terminal.tmux("resize-window", "-x", "140", "-y", "40")
    terminal.expect("CONN")
    stage.daemon.stop()
    terminal.expect("No answer")
    stage.daemon.restart()
    terminal.expect_that("the daemon answers again", lambda text: "No answer" not in text and name(leases[0]) in text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_restores_the_terminal(stage: Stage, terminal: Terminal, number: signal.Signals) -> None:
    shell = terminal.tmux("display-message", "-p", "#{pane_pid}").strip()
    children = Path(f"/proc/{shell}/task/{shell}/children").read_text(encoding="utf-8").split()
    os.kill(int(children[0]), number)
    terminal.expect_shell(0)


def test_screen_ends_with_its_terminal(stage: Stage, request: pytest.FixtureRequest) -> None:
    """Regression: crossterm reads a terminal that is gone for ever, so the process stayed, at full load."""
    terminal = Terminal(stage, request.node.name)
    shell = terminal.tmux("display-message", "-p", "#{pane_pid}").strip()
    screen = Path(f"/proc/{shell}/task/{shell}/children").read_text(encoding="utf-8").split()[0]
    terminal.close()
    until("the process has ended", lambda: not Path(f"/proc/{screen}").exists())


def test_ctrl_c_restores_the_terminal(terminal: Terminal) -> None:
    terminal.keys("C-c")
    terminal.expect_shell(0)


def test_without_terminal_one_line_for_each_change(stage: Stage) -> None:
    command = [program(), "status", "--watch"]
    environment = {**os.environ, **stage.daemon.variables}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        lease = stage.lease("shop_test", wait_seconds=30)
        while " 1 leased" not in (line := watching.stdout.readline()):
            assert line, "it ended"
        watching.terminate()
    stage.call("DELETE", f"/v1/leases/{lease['id']}")
    assert re.fullmatch(r"Ready: \d ready, 0 leased, \d spare, 0 waiting\n", first)
    assert "\x1b" not in first + line
