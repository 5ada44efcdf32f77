"""Records the command lines of pgdibs and of all processes it starts, as any user of the machine sees them."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Optional

EVERY_SECONDS = 0.5
# The program, started by any path.
PROGRAM = re.compile(r"(^|/)pgdibs$")


class ProcessList:
    """Samples in the background within the `with` block; writes each command line once."""

    def __init__(self, file: Path):
        self._file = file
        self._written: set[str] = set()
        # A server outlives a killed daemon and becomes the child of another process, so remember it.
        self._descendants = {os.getpid()}
        self._ours: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProcessList:
        self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], where: Optional[TracebackType]
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with self._file.open("w", encoding="utf-8") as out:
            while not self._ended.wait(EVERY_SECONDS):
                listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], stdout=subprocess.PIPE, check=False)
                self.sample(listed.stdout.decode(errors="replace"), out.write)
                out.flush()

    def sample(self, listed: str, write: Callable[[str], object]) -> None:
        """Takes one sample: the descendants of this process that are pgdibs or descend from it."""
        alive: dict[int, tuple[int, str]] = {}
        for line in listed.splitlines():
            fields = line.split(None, 2)
            if len(fields) == 3:
                alive[int(fields[0])] = (int(fields[1]), fields[2])
        self._descendants = {os.getpid()} | self._with_children(self._descendants & alive.keys(), alive)
        programs = {one for one in self._descendants & alive.keys() if PROGRAM.search(alive[one][1].split(" ", 1)[0])}
        self._ours = self._with_children((self._ours & alive.keys()) | programs, alive)
        for command in sorted({alive[one][1] for one in self._ours} - self._written):
            self._written.add(command)
            write(command + "\n")

    @staticmethod
    def _with_children(found: set[int], alive: dict[int, tuple[int, str]]) -> set[int]:
        """These processes and all their descendants."""
        while True:
            more = found | {process for process, (parent, _) in alive.items() if parent in found}
            if more == found:
                return found
            found = more
