#!/usr/bin/env python3
"""Mutants of SQL text, which cargo-mutants does not change: removes each SQL guard by a patch, and checks that its test fails.

The patches are in crates/pgdibs-postgres/tests/sql-guards. Each starts with three lines: `Guard:` the rule, `Program:` the test
program, `Test:` a nextest filter; all tests that the filter selects must fail without the guard.
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
class SqlGuard:
    """One patch and its test."""

    patch: Path
    what: str
    program: str
    test: str


def read(patch: Path) -> SqlGuard:
    """The guard of a patch; raises `SystemExit` with the name of a file with an invalid head."""
    found = re.match(r"Guard: (.+)\nProgram: (\w+)\nTest: (.+)\n\n", patch.read_text(encoding="utf-8"))
    if not found:
        raise SystemExit(f"{patch}: must start with the lines Guard:, Program: and Test:, then an empty one")
    return SqlGuard(patch, *found.groups())


def git(*arguments: str, directory: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=directory, check=True, stdout=subprocess.PIPE, text=True)


def does_not_apply(guard: SqlGuard) -> str:
    """The error of applying the patch to the tree; empty if it applies."""
    command = ["git", "apply", "--check", str(guard.patch)]
    return subprocess.run(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, check=False).stderr


def check_out() -> None:
    """Checks out the committed tree in a directory of its own."""
    if not (TREE / ".git").exists():
        git("worktree", "prune")
        git("worktree", "add", "--quiet", "--detach", "--force", str(TREE))
    git("reset", "--quiet", "--hard", git("rev-parse", "HEAD").stdout.strip(), directory=TREE)


def tests_of(guard: SqlGuard) -> tuple[int, str]:
    """The exit status and output of nextest in the tree without the guard."""
    command = [str(TREE / "scripts/rust-tests.sh"), "15", "--", "--profile", "all", "--test", guard.program, "-E", guard.test]
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


def missed(guard: SqlGuard) -> str:
    """Why the tests do not cover the guard; empty if all of them failed without it."""
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
    parser.add_argument("--check", action="store_true", help="only check that each patch applies")
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
    print(f"{len(guards) - failures} of {len(guards)} {'apply' if arguments.check else 'covered by their tests'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
