"""Looks for secrets in everything that a run of the tests has left: find-secrets.py DIRECTORY (default: target/test-logs).

Every password, build token and token of a test is recognisable: what pgdibs makes begins with a mark, what the tests choose is
listed here. Prints each place (file and line, not the secret), and what was looked through; fails when there is a secret, or too
little to look through.
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

# What pgdibs makes (scram.rs, http/templates.rs) and what with-daemon.py gives its daemon.
MADE = re.compile(r"pgdibs(?:pw|bt|tk)[0-9a-f]{16,}")
# What the tests choose: superusers' passwords, as they are and as they stand in URLs, tokens, and variables of builds.
CHOSEN = (
    "p@ss:w/rd?#%&",
    "p%40ss%3Aw%2Frd%3F%23%25%26",
    "sh@red",
    "canary-",
)
# A verifier is no password, but it is nobody's business either.
VERIFIER = re.compile(r"SCRAM-SHA-256\$\d+:")

# A run of all tests leaves at least so many files of each kind.
LEAST = {"parts": 10, "daemon": 20, "postgres": 10, "pages": 10, "stderr": 10, "junit": 1, "processes": 1}


def kind_of(file: Path, root: Path) -> str:
    """What a file holds, by where run-parts.py and the tests put it."""
    parts = file.relative_to(root).parts
    if parts[0] == "kept":
        return parts[-1].partition("-")[0]
    if parts[-1] == "processes.log":
        return "processes"
    return "junit" if file.suffix == ".xml" else "parts"


def secrets_in(line: str, kind: str) -> Iterator[str]:
    """The kinds of secrets in one line."""
    if found := MADE.search(line):
        yield found[0][:8]
    for chosen in CHOSEN:
        if chosen in line:
            yield "a secret of the tests"
    # The server itself writes statements that fail into its log; ours carry verifiers on purpose.
    if kind != "postgres" and VERIFIER.search(line):
        yield "a verifier"


def main() -> int:
    """Looks through every file."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET / "test-logs"
    looked: Counter[str] = Counter()
    size = 0
    problems = 0
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        kind = kind_of(file, root)
        looked[kind] += 1
        with file.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                size += len(line)
                for what in secrets_in(line, kind):
                    problems += 1
                    print(f"{file}:{number}: {what}")
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(looked.items()))
    print(f"looked through {sum(looked.values())} files ({counted}), {size / 1e6:.1f} MB")
    for kind, least in LEAST.items():
        if looked[kind] < least:
            problems += 1
            print(f"only {looked[kind]} of kind {kind}, at least {least} were expected: the search would find nothing")
    print("no secret was found" if not problems else f"{problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
