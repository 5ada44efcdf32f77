"""Runs docs/node.md and docs/go.md: writes their files into a fresh directory and runs their `sh test` blocks there.

check-snippets.py [node] [go]: against the daemon of PGDIBS_URL (see with-daemon.py). Needs node and npm, and for Go the Debian
packages golang-go and golang-github-lib-pq-dev, which has the driver.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
WITHIN_SECONDS = 240
# The directory of Debian's Go libraries, for GOPATH.
DEBIAN_GO = "/usr/share/gocode"


def blocks(markdown: str) -> tuple[dict[str, str], list[str]]:
    """The files of a page (fences with a name) and its commands (fences `sh test`)."""
    files: dict[str, str] = {}
    commands: list[str] = []
    for words, text in re.findall(r"^```(\S+ \S+)\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL):
        if words == "sh test":
            commands.append(text)
        else:
            files[words.split()[1]] = text
    return files, commands


def environment_of(language: str, place: Path) -> tuple[Path, dict[str, str]]:
    """The directory for the files, and the environment for the commands."""
    environment = dict(os.environ)
    if language != "go":
        return place, environment
    # Without modules, because the module proxy may be unreachable; Debian has the sources.
    environment.update(GO111MODULE="off", GOPATH=f"{place}/go:{DEBIAN_GO}", GOFLAGS="", PGSSLMODE="disable")
    environment.update(GOCACHE=f"{place}/cache", HOME=str(place))
    return place / "go/src/shop", environment


def run(language: str) -> int:
    """Runs one page; the output of its commands is visible."""
    files, commands = blocks((DOCS / f"{language}.md").read_text(encoding="utf-8"))
    if not files or not commands:
        print(
            f"docs/{language}.md has {len(files)} named files and {len(commands)} blocks `sh test`; each is needed",
            file=sys.stderr,
        )
        return 1
    place = Path(tempfile.mkdtemp(prefix=f"pgdibs-{language}-"))
    directory, environment = environment_of(language, place)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    for command in commands:
        shell = ["bash", "-euxo", "pipefail", "-c", command]
        status = subprocess.run(shell, cwd=directory, env=environment, check=False, timeout=WITHIN_SECONDS).returncode
        if status != 0:
            print(f"docs/{language}.md failed with {status}; its files are in {directory}", file=sys.stderr)
            return status
    shutil.rmtree(place)
    print(f"docs/{language}.md: {len(files)} files, {len(commands)} commands ran")
    return 0


def main() -> int:
    """Runs the pages up to the first that fails."""
    if "PGDIBS_URL" not in os.environ:
        print(__doc__, file=sys.stderr)
        return 2
    return next((status for language in sys.argv[1:] or ["node", "go"] if (status := run(language)) != 0), 0)


if __name__ == "__main__":
    sys.exit(main())
