"""Takes each protection of protections.py out, one at a time in a copy of the commit, and shows that its tests fail without it.

without-protections.py [--only NAME...] [--list] [--output FILE]: fails when one is not seen to fail. Its build is kept below
target/without-protections, so that a second run builds little.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from protection import Protection
from protections import PROTECTIONS

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "target" / "without-protections"
TREE = PLACE / "tree"
SCRIPTS = ROOT / "scripts"

# What nextest ends with when it has run tests and one of them failed. Builds that fail end with 101, an empty filter with 4.
TESTS_FAILED = 100
# Longer than any test may take by .config/nextest.toml, with a build before it.
AT_MOST = 30 * 60

SEEN = "seen to fail"
NOT_SEEN = "NOT SEEN TO FAIL"
# Several tests are named, and some of them passed.
IN_PART = "SEEN IN PART"
NO_BUILD = "does not build"
NO_TEST = "no such test"


def named_tests(expression: str) -> list[str]:
    """The names, or their beginnings, in a filter of nextest."""
    return re.findall(r"test\(/?(?:long::)?(\w+)\$?/?\)", expression)


@dataclass(frozen=True)
class Outcome:
    """What was seen without one protection."""

    protection: Protection
    verdict: str
    seconds: float
    failed: int
    message: str
    output: str = ""

    def line(self) -> str:
        """As it is printed."""
        tests = f"{self.failed} test{'' if self.failed == 1 else 's'}, " if self.failed else ""
        return f"{self.protection.name}: {self.verdict} ({tests}{self.seconds:.0f} s) {self.message}".rstrip()

    def row(self) -> str:
        """As it stands in docs/protections.md."""
        message = self.message.replace("|", "\\|").replace("`", "'")
        shown = f"`{message}`" if message else ""
        tests = ", ".join(f"`{name}`" for name in named_tests(self.protection.test))
        return f"| {self.protection.what} | {tests} | {self.verdict} | {shown} |"


def applied(name: str, change: tuple[str, str, str], text: str) -> str:
    """The text without the protection."""
    file, find, put = change
    found = text.count(find)
    if found != 1:
        raise SystemExit(f"{name}: `{find}` stands {found} times in {file}; it has to be once")
    return text.replace(find, put)


@contextmanager
def without(protection: Protection, tree: Path) -> Iterator[None]:
    """The tree without the protection, and with it again afterwards, whatever happens."""
    files = {tree / file for file, _, _ in protection.changes}
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    try:
        for change in protection.changes:
            file = tree / change[0]
            file.write_text(applied(protection.name, change, file.read_text(encoding="utf-8")), encoding="utf-8")
        yield
    finally:
        for file, text in texts.items():
            file.write_text(text, encoding="utf-8")


def output_of(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def check_out() -> None:
    """The committed tree in a place of its own. What a killed run left changed in it is put back."""
    commit = output_of("git", "rev-parse", "HEAD").strip()
    if not (TREE / ".git").exists():
        shutil.rmtree(TREE, ignore_errors=True)
        output_of("git", "worktree", "prune")
        output_of("git", "worktree", "add", "--quiet", "--detach", str(TREE), commit)
    subprocess.run(["git", "-C", str(TREE), "reset", "--quiet", "--hard", commit], check=True)


def environment() -> dict[str, str]:
    """Postgres 15 and the tools, as scripts/rust-tests.sh has them."""
    subprocess.run([str(SCRIPTS / "install-tools.sh"), "build", "nextest", "pgbouncer", "faketime"], check=True)
    directory = output_of(str(SCRIPTS / "fetch-postgres.sh"), "15").strip()
    script = f'source "{SCRIPTS}/environment.sh"; printf %s "$PATH:{directory}"'
    path = output_of("bash", "-c", script)
    variables = {name: value for name, value in os.environ.items() if name != "PGDIBS_CACHE"}
    variables.update(
        PATH=path,
        PGDIBS_TEST_PG_BIN_DIRS=directory,
        PGDIBS_TEST_PG_BIN_DIR=directory,
        CARGO_TARGET_DIR=str(PLACE / "cargo"),
        NEXTEST_HIDE_PROGRESS_BAR="1",
    )
    return variables


def targets(protection: Protection) -> list[str]:
    """Only what has the tests is built and linked."""
    if protection.where == "core":
        return ["--package", "pgdibs-core", "--lib"]
    places = (["--lib"] if place == "lib" else ["--test", place] for place in protection.where.split())
    return ["--workspace", *itertools.chain.from_iterable(places)]


def run_tests(protection: Protection, variables: dict[str, str]) -> tuple[int, str]:
    """Nextest's code and all it printed. Whatever it started goes with it: it leads a group of its own."""
    command = [
        "cargo",
        "nextest",
        "run",
        "--no-fail-fast",
        "--status-level",
        "none",
        "--final-status-level",
        "fail",
    ]
    # As in scripts/rust-tests.sh.
    command += ["--test-threads", str((os.cpu_count() or 1) * 2)]
    command += targets(protection)
    process = subprocess.Popen(
        [*command, "-E", protection.test],
        cwd=TREE,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=AT_MOST)
    except subprocess.TimeoutExpired:
        end(process)
        return TESTS_FAILED + 1, f"took longer than {AT_MOST} s"
    except BaseException:
        end(process)
        raise
    return process.returncode, output


def end(process: subprocess.Popen[str]) -> None:
    # Nextest ends its tests when it is told to, and gives them time to take their servers down.
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def first_words(output: str) -> str:
    """The first line of what the first failing test said."""
    lines = [line.strip() for line in output.splitlines()]
    for number, line in enumerate(lines):
        if re.search(r"panicked at \S+:\d+:\d+:$", line):
            said = lines[number + 1 :]
            # What is printed over several lines begins with a bracket alone.
            first = next((later for later in said if re.search(r"\w", later)), "")
            # A log that follows says less than the sentence before it, and each run has its own.
            first = re.split(r":? \d{4}-\d\d-\d\dT\d\d:", first)[0]
            if first.startswith("assertion `left == right` failed"):
                sides = itertools.takewhile(is_side, itertools.dropwhile(lambda line: not is_side(line), said))
                first = ", ".join([re.sub(r": [^:]*[({\[]$", "", first), *sides])
            elif first.endswith(("(", "{", "[")):
                first = " ".join(said[said.index(first) : said.index(first) + 5])
            return shortened(first)
    ended = next((line for line in lines if line.startswith(("TIMEOUT", "SIGTERM", "SIGABRT"))), "")
    return "ended by nextest: it took too long" if ended else ""


def is_side(line: str) -> bool:
    return line.startswith(("left: ", "right: "))


def shortened(text: str) -> str:
    return text if len(text) <= 110 else text[:109] + "…"


def counts(output: str) -> tuple[int, int]:
    """How many tests nextest has run, and how many of them passed."""
    found = re.search(r"Summary .*?(\d+)(?:/\d+)? tests? run: (\d+) passed", output)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def judged(protection: Protection, code: int, output: str, seconds: float) -> Outcome:
    """What nextest's code and words mean."""
    run, passed = counts(output)
    if code == TESTS_FAILED and run:
        verdict = IN_PART if passed else SEEN
        return Outcome(protection, verdict, seconds, run - passed, first_words(output), output)
    if code == 0:
        return Outcome(protection, NOT_SEEN, seconds, 0, "", output)
    if code == 4:
        return Outcome(protection, NO_TEST, seconds, 0, protection.test, output)
    error = next((line for line in output.splitlines() if line.startswith("error")), f"nextest ended with {code}")
    return Outcome(protection, NO_BUILD, seconds, 0, shortened(error), output)


def seen_without(protection: Protection, variables: dict[str, str]) -> Outcome:
    began = time.monotonic()
    with without(protection, TREE):
        code, output = run_tests(protection, variables)
    outcome = judged(protection, code, output, time.monotonic() - began)
    (PLACE / "output").mkdir(exist_ok=True)
    (PLACE / "output" / f"{protection.name}.txt").write_text(output, encoding="utf-8")
    return outcome


HEAD = """# Each protection, taken out

Written by `make protections`, not by hand. Each row is one protection that was taken out of a copy, and what its tests said
without it, on Postgres 15. The changes are in the lists that [protections.py](../scripts/protections.py) joins.

| Protection | Tests | Without it | What the first of them says |
| --- | --- | --- | --- |
"""


def write(file: Path, outcomes: list[Outcome]) -> None:
    """The table. Rows of a run with `--only` take the place of theirs in what is there."""
    rows = {}
    if file.exists():
        old = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
        whats = {protection.what: protection.name for protection in PROTECTIONS}
        rows = {whats[what]: line for line in old if (what := line[2:].split(" | ")[0]) in whats}
    rows.update((outcome.protection.name, outcome.row()) for outcome in outcomes)
    table = [rows[protection.name] for protection in PROTECTIONS if protection.name in rows]
    file.write_text(HEAD + "\n".join(table) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these protections")
    parser.add_argument("--list", action="store_true", help="print the protections and end")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table to this file")
    arguments = parser.parse_args()
    chosen = list(PROTECTIONS)
    if arguments.only:
        unknown = set(arguments.only) - {protection.name for protection in PROTECTIONS}
        if unknown:
            parser.error(f"no such protection: {', '.join(sorted(unknown))}; --list shows them")
        chosen = [protection for protection in PROTECTIONS if protection.name in arguments.only]
    if arguments.list:
        for protection in chosen:
            print(f"{protection.name}: {protection.what} ({protection.file}; {protection.test})")
        return 0
    check_out()
    variables = environment()
    outcomes: list[Outcome] = []
    try:
        for protection in chosen:
            outcomes.append(seen_without(protection, variables))
            print(outcomes[-1].line(), flush=True)
            if arguments.output:
                write(arguments.output, outcomes)
    except KeyboardInterrupt:
        print("stopped; the tree is whole again", file=sys.stderr)
        return 130
    missed = [outcome for outcome in outcomes if outcome.verdict != SEEN]
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} seen to fail; what the tests printed: {PLACE / 'output'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
