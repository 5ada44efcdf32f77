"""Searches the files that a test run has left for secrets: find-secrets.py DIRECTORY (default: target/test-logs).

All secrets of tests are recognisable: those that pgdibs makes start with a prefix, those that the tests choose are listed here.
Prints the file and line of each secret, and the number of files; fails if there is a secret, or if there are too few files.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target")))

# The secrets that pgdibs makes (scram.rs, http/templates.rs), and the token of with-daemon.py.
MADE = re.compile(r"pgdibs(?:pw|bt|tk)[0-9a-f]{16,}")
# The secrets that the tests choose: passwords of superusers, plain and as in URLs, tokens, and variables of builds.
CHOSEN = (
    "p@ss:w/rd?#%&",
    "p%40ss%3Aw%2Frd%3F%23%25%26",
    "sh@red",
    "canary-",
)
# A verifier is no password, but logs must not have it either.
VERIFIER = re.compile(r"SCRAM-SHA-256\$\d+:")

# A run of all tests leaves at least so many files of each kind.
MINIMUM_FILES = {"tasks": 10, "daemon": 20, "postgres": 10, "pages": 10, "stderr": 10, "junit": 1, "processes": 1}


def kind_of(file: Path, root: Path) -> str:
    """The kind of a file, by the place where run-tasks.py and the tests put it."""
    parts = file.relative_to(root).parts
    if parts[0] == "kept":
        return parts[-1].partition("-")[0]
    if parts[-1] == "processes.log":
        return "processes"
    return "junit" if file.suffix == ".xml" else "tasks"


def secrets_in(line: str, kind: str) -> Iterator[str]:
    """The kinds of secrets in one line."""
    if found := MADE.search(line):
        yield found[0][:8]
    for chosen in CHOSEN:
        if chosen in line:
            yield "a secret of the tests"
    # The server logs failed statements; some of those in tests have verifiers on purpose.
    if kind != "postgres" and VERIFIER.search(line):
        yield "a verifier"


def main() -> int:
    """Searches all files."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET / "test-logs"
    searched: Counter[str] = Counter()
    size = 0
    problems = 0
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        kind = kind_of(file, root)
        searched[kind] += 1
        with file.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                size += len(line)
                for what in secrets_in(line, kind):
                    problems += 1
                    print(f"{file}:{number}: {what}")
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(searched.items()))
    print(f"searched {sum(searched.values())} files ({counted}), {size / 1e6:.1f} MB")
    for kind, minimum in MINIMUM_FILES.items():
        if searched[kind] < minimum:
            problems += 1
            print(f"only {searched[kind]} of kind {kind}, at least {minimum} were expected: the search would miss secrets")
    print("no secret was found" if not problems else f"{problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
