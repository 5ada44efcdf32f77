"""Keeps templates as files in a folder, so that a run on another machine imports what this run has built.

The program pgdibs writes and reads the files, with pg_dump, pg_restore and psql. If it cannot, the template is built.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from pgdibs.calls import Caller
from pgdibs.errors import PgdibsError, TemplateNotFound
from pgdibs.program import find_program

KEPT_FILES = 3
"""How many files of a pool stay, those that were last written or used."""

LIMIT_SECONDS = 600.0
"""How long an export or an import may take."""

DAMAGED = 65
"""The exit status of an import whose file is damaged."""


@dataclass(frozen=True)
class TemplateCache:
    """A folder with templates. Several runs may use it: the program gives a file its name when the file is complete."""

    directory: Path
    client: Caller
    print_line: Callable[[str], None]

    def load(self, pool: str, fingerprint: str) -> None:
        """Import the template, unless the daemon has it or the folder does not."""
        with suppress(TemplateNotFound):
            if self.client.call("GET", f"/v1/pools/{pool}/templates/{fingerprint}")["state"] == "ready":
                return
        file = self._file(pool, fingerprint)
        if file is None or not file.exists():
            return
        ran = self._run("import", file, pool)
        if ran is None:
            return
        if ran.returncode == 0:
            self.print_line(f"imported the template of pool {pool} from {file}")
            # The files that were used last stay.
            with suppress(OSError):
                os.utime(file)
            return
        if ran.returncode == DAMAGED:
            file.unlink(missing_ok=True)
        what = "removed it" if ran.returncode == DAMAGED else "did not import it"
        self.print_line(f"{what}, the template is built: {_reason(ran)}")

    def save(self, pool: str, fingerprint: str) -> None:
        """Export the template, and remove the oldest files of the pool."""
        file = self._file(pool, fingerprint)
        if file is None:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.print_line(f"did not keep the template of pool {pool}: {error}")
            return
        ran = self._run("export", file, pool, "--fingerprint", fingerprint)
        if ran is None:
            return
        if ran.returncode != 0:
            self.print_line(f"did not keep the template of pool {pool}: {_reason(ran)}")
            return
        self.print_line(f"exported the template of pool {pool} to {file}")
        files = sorted(self.directory.glob(f"{pool}-pg*.pgdibs"), key=_used_at, reverse=True)
        # An export that was killed leaves an unfinished file.
        unfinished = [file for file in self.directory.glob(".pgdibs-export-*") if _used_at(file) < time.time() - LIMIT_SECONDS]
        for old in [*files[KEPT_FILES:], *unfinished]:
            old.unlink(missing_ok=True)

    def _file(self, pool: str, fingerprint: str) -> Optional[Path]:
        """The file of a template for the daemon's server; None if the server has not answered yet."""
        version = self.client.call("GET", "/v1/status")["server"]["version"] or ""
        major = re.match(r"\d+", version)
        return self.directory / f"{pool}-pg{major[0]}-{fingerprint}.pgdibs" if major else None

    def _run(self, command: str, file: Path, pool: str, *more: str) -> Optional[subprocess.CompletedProcess[str]]:
        environment = {**os.environ, "PGDIBS_URL": self.client.url, "PGDIBS_VIA": self.client.via or ""}
        if self.client.token:
            environment["PGDIBS_TOKEN"] = self.client.token
        try:
            return subprocess.run(
                [find_program(), "template", command, str(file), "--pool", pool, *more, "--output", "json"],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except (OSError, PgdibsError, subprocess.TimeoutExpired) as error:
            self.print_line(f"cannot {command} the template of pool {pool}: {error}")
            return None


def _used_at(file: Path) -> float:
    """When the file was last written or used; another run may have removed it."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _reason(ran: subprocess.CompletedProcess[str]) -> str:
    """The error of the program, which is the last line of its standard error."""
    lines = ran.stderr.strip().splitlines()
    try:
        return str(json.loads(lines[-1])["detail"])
    except (IndexError, KeyError, TypeError, ValueError):
        return ran.stderr.strip() or f"the program ended with {ran.returncode}"
