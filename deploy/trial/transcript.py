"""The transcript of the smoke test: printed as it runs, and written to docs/deploy-trial.md."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEAD = """# Deploy trial

The last output of `make deploy-test`, which builds the images, starts the compose stack, runs the example's suite on it from
outside and inside, kills what can be killed, and runs the Actions jobs, the Kubernetes Job's pod and the systemd unit. Written by
it; do not edit.

```text
"""


class Failed(Exception):
    """A check of the smoke test failed."""


class Transcript:
    """The lines of the smoke test."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.hosted: list[str] = []
        """What could not be run here, and why."""

    def add(self, line: str) -> None:
        """Prints and stores one line."""
        print(line, flush=True)
        self.lines.append(line)

    def not_run(self, what: str, why: str) -> None:
        """Something that this machine cannot run; listed again at the end."""
        self.hosted.append(f"{what}: {why}")
        self.add(f"     not run here: {what}: {why}")

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """One part, with the seconds it took."""
        self.add(f"\n## {title}")
        started = time.monotonic()
        yield
        self.add(f"     ({time.monotonic() - started:.0f} s)")

    def write(self, path: Path, versions: dict[str, str]) -> None:
        """The page."""
        today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
        head = [f"date: {today}", *(f"{name}: {version}" for name, version in versions.items())]
        path.write_text(HEAD + "\n".join([*head, *self.lines]) + "\n```\n", encoding="utf-8")


def check(condition: bool, what: str) -> None:
    """Raises `Failed` with the sentence unless the condition holds."""
    if not condition:
        raise Failed(what)
