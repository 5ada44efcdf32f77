#!/usr/bin/env python3
"""Mutants of SQL text, which cargo-mutants does not change: removes each SQL guard by a patch, and checks that its test fails.

sql-guards.py [--check] [NAME...]: these patches of crates/pgdibs-postgres/tests/sql-guards (default: all); `--check` only checks
that they apply. Each starts with three lines: `Guard:` the rule, `Program:` the test program, `Test:` a nextest filter; all tests
that the filter selects must fail without the guard.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PATCHES = REPOSITORY / "crates/pgdibs-postgres/tests/sql-guards"
PLACE = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "sql-guards"
TREE = PLACE / "tree"
NEXTEST_TESTS_FAILED = 100
TIMEOUT_SECONDS = 600


def git(*arguments: str, directory: Path = REPOSITORY) -> None:
    subprocess.run(["git", *arguments], cwd=directory, check=True)


def check_out() -> None:
    """Checks out the committed tree in a directory of its own."""
    if not (TREE / ".git").exists():
        git("worktree", "prune")
        git("worktree", "add", "--quiet", "--detach", "--force", str(TREE))
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, text=True).strip()
    git("reset", "--quiet", "--hard", head, directory=TREE)


def missed(patch: Path, program: str, test: str) -> str:
    """Why the tests do not cover the guard; empty if all of them failed without it."""
    git("apply", str(patch), directory=TREE)
    command = [str(TREE / "scripts/rust-tests.sh"), "15", "--", "--profile", "all", "--test", program, "-E", test]
    variables = {**os.environ, "CARGO_TARGET_DIR": str(PLACE / "cargo"), "NEXTEST_HIDE_PROGRESS_BAR": "1"}
    try:
        ran = subprocess.run(
            command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {TIMEOUT_SECONDS} s"
    finally:
        git("reset", "--quiet", "--hard", directory=TREE)
    output = ran.stdout.decode(errors="replace")
    summary = re.search(r"Summary .*?(\d+) tests? run: (\d+) passed", output)
    if not summary:
        return f"nextest ended with {ran.returncode}:\n" + "\n".join(output.splitlines()[-15:])
    is_covered = ran.returncode == NEXTEST_TESTS_FAILED and summary[2] == "0"
    return "" if is_covered else f"{summary[2]} of {summary[1]} tests passed without it"


def main() -> int:
    only_check, names = "--check" in sys.argv, [name for name in sys.argv[1:] if name != "--check"]
    patches = [PATCHES / f"{name}.patch" for name in names] or sorted(PATCHES.glob("*.patch"))
    if not only_check:
        check_out()
    failures = 0
    for patch in patches:
        head = re.match(r"Guard: .+\nProgram: (\w+)\nTest: (.+)\n\n", patch.read_text(encoding="utf-8"))
        if not head:
            why = "must start with the lines Guard:, Program: and Test:, then an empty one"
        elif only_check:
            command = ["git", "apply", "--check", str(patch)]
            why = subprocess.run(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, check=False).stderr
        else:
            why = missed(patch, head[1], head[2])
        failures += bool(why)
        print(f"{patch.stem}: {why or ('applies' if only_check else 'its tests fail without it')}", flush=True)
    print(f"{len(patches) - failures} of {len(patches)} {'apply' if only_check else 'covered by their tests'}")
    return 1 if failures or not patches else 0


if __name__ == "__main__":
    sys.exit(main())
