"""The example's suite, on this machine, against a daemon somewhere; it can be disturbed in the middle."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from docker import REPOSITORY, until
from transcript import check

SHOP = REPOSITORY / "examples/fastapi-shop"
SUITE_SECONDS = 600.0


class Suite:
    """One pytest of the example that has been started."""

    def __init__(self, url: str, token: Optional[str], *arguments: str, enter: tuple[str, ...] = ()) -> None:
        descriptor, self._output = tempfile.mkstemp(prefix="pgdibs-trial-suite-")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PGDIBS_")}
        environment["PGDIBS_URL"] = url
        if token is not None:
            environment["PGDIBS_TOKEN"] = token
        python = str(REPOSITORY / ".venv/bin/python")
        self._process = subprocess.Popen(
            [*enter, python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=SHOP,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(descriptor)
        atexit.register(lambda: os.unlink(self._output))

    def output(self) -> str:
        """What it has written so far."""
        return Path(self._output).read_text(errors="replace")

    def in_the_middle(self) -> None:
        """Returns when the first full line of dots stands there, which is after 72 tests."""
        until(
            f"the first tests have run; output of pytest:\n{self.output()}",
            lambda: "%]" in self.output() or self.has_ended(),
            SUITE_SECONDS,
        )
        check(not self.has_ended(), f"the suite ended before it could be disturbed:\n{self.output()[-3000:]}")

    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def end(self) -> int:
        """Its exit code."""
        try:
            return self._process.wait(SUITE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            check(False, f"the suite had not ended after {SUITE_SECONDS:.0f} s:\n{self.output()[-3000:]}")
            raise

    def counted(self, what: str) -> int:
        """How many tests `passed` or `failed`, by pytest's last line."""
        found = re.findall(rf"(\d+) {what}", self.output())
        return int(found[-1]) if found else 0

    def passes(self) -> str:
        """Waits for its end, which has to be a good one; pytest's last line."""
        code = self.end()
        check(code == 0 and self.counted("passed") > 0, f"the suite ended with {code}:\n{self.output()[-3000:]}")
        return last_line(self.output())


def passes(
    url: str, token: Optional[str], *arguments: str, enter: tuple[str, ...] = (), disturb: Optional[Callable[[], None]] = None
) -> str:
    """A suite that has to pass, also when it is disturbed in the middle; pytest's last line."""
    suite = Suite(url, token, *arguments, enter=enter)
    if disturb is not None:
        suite.in_the_middle()
        disturb()
        check(not suite.has_ended(), "the suite ended before it had been disturbed")
    return suite.passes()


def last_line(output: str) -> str:
    """pytest's closing line."""
    return next(line for line in reversed(output.splitlines()) if " passed" in line or " failed" in line).strip("= ")
