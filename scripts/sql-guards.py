#!/usr/bin/env python3
"""Takes each SQL guard out of a copy, by its patch, and sees its test fail; cargo-mutants does not look into SQL text.

The patches are in crates/pgdibs-postgres/tests/sql-guards. Each begins with three lines: `Guard:` what holds, `Program:` the test
program, `Test:` a nextest filter; every test that it selects has to fail without the guard.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
REPOSITORY = SCRIPTS.parent
PATCHES = REPOSITORY / "crates/pgdibs-postgres/tests/sql-guards"
PLACE = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "sql-guards"
TREE = PLACE / "tree"
NEXTEST_TESTS_FAILED = 100
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Guard:
    """One patch and its test."""

    patch: Path
    what: str
    program: str
    test: str


def read(patch: Path) -> Guard:
    """The guard of a patch; an error that names the file when its head is not as it should be."""
    found = re.match(r"Guard: (.+)\nProgram: (\w+)\nTest: (.+)\n\n", patch.read_text(encoding="utf-8"))
    if not found:
        raise SystemExit(f"{patch}: must begin with the lines Guard:, Program: and Test:, then an empty one")
    return Guard(patch, *found.groups())


def git(*arguments: str, directory: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=directory, check=True, stdout=subprocess.PIPE, text=True)


def does_not_apply(guard: Guard) -> str:
    """Why the patch does not fit the tree as it is; empty when it does."""
    command = ["git", "apply", "--check", str(guard.patch)]
    return subprocess.run(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, check=False).stderr


def check_out() -> None:
    """The committed tree in a directory of its own."""
    if not (TREE / ".git").exists():
        git("worktree", "prune")
        git("worktree", "add", "--quiet", "--detach", "--force", str(TREE))
    git("reset", "--quiet", "--hard", git("rev-parse", "HEAD").stdout.strip(), directory=TREE)


def tests_of(guard: Guard) -> tuple[int, str]:
    """Nextest's exit status and output, in the tree without the guard."""
    command = [str(TREE / "scripts/rust-tests.sh"), "15", "--", "--test", guard.program, "-E", guard.test]
    variables = {**os.environ, "CARGO_TARGET_DIR": str(PLACE / "cargo"), "NEXTEST_HIDE_PROGRESS_BAR": "1"}
    ran = subprocess.run(
        command,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return ran.returncode, ran.stdout


def missed(guard: Guard) -> str:
    """Why the guard is not held by its test; empty when each of its tests failed without it."""
    git("apply", str(guard.patch), directory=TREE)
    try:
        status, output = tests_of(guard)
    except subprocess.TimeoutExpired:
        return f"took longer than {TIMEOUT_SECONDS} s"
    finally:
        git("reset", "--quiet", "--hard", directory=TREE)
    summary = re.search(r"Summary .*?(\d+) tests? run: (\d+) passed", output)
    if status == NEXTEST_TESTS_FAILED and summary and summary[2] == "0":
        return ""
    if summary:
        return f"{summary[2]} of {summary[1]} tests passed without it"
    return f"nextest ended with {status}:\n" + "\n".join(output.splitlines()[-15:])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these patches, without .patch")
    parser.add_argument("--check", action="store_true", help="only see that each patch applies")
    arguments = parser.parse_args()
    guards = [read(patch) for patch in sorted(PATCHES.glob("*.patch"))]
    if arguments.only:
        unknown = set(arguments.only) - {guard.patch.stem for guard in guards}
        if unknown:
            parser.error(f"no such patch: {', '.join(sorted(unknown))}; they are in {PATCHES}")
        guards = [guard for guard in guards if guard.patch.stem in arguments.only]
    if not arguments.check:
        check_out()
    failures = 0
    for guard in guards:
        why = does_not_apply(guard) if arguments.check else missed(guard)
        failures += bool(why)
        if why or not arguments.check:
            print(f"{guard.patch.stem}: {why or 'its tests fail without it'}", flush=True)
    print(f"{len(guards) - failures} of {len(guards)} {'apply' if arguments.check else 'held by their tests'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
