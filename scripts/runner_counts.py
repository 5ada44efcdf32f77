"""Reads how many tests passed and failed, and which were slow, from a JUnit file or from pytest's output."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

# `12 passed, 1 failed in 3.21s (0:00:03)`, with or without equals signs around it.
CLOSING_LINE = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s\b")
# `ok   two at once: 300 + 300 passed in 61.2 s, left behind: 0`, the line of the example's suite runner.
SUITE_LINE = re.compile(r"^ok +[^:]+: (\d+(?: \+ \d+)*) passed in ")
# `3.21s call     tests/test_orders.py::test_total`
DURATION_LINE = re.compile(r"^([\d.]+)s (call|setup|teardown)\s+(\S.*)$")
FAILED_LINE = re.compile(r"^(?:FAILED|ERROR) (\S+)")


@dataclass(frozen=True)
class Timed:
    """A name and the seconds it took."""

    name: str
    seconds: float


@dataclass
class Counts:
    """The counts of a runner."""

    passed: int = 0
    failed: int = 0
    slowest: list[Timed] = field(default_factory=list)
    failed_names: list[str] = field(default_factory=list)


def from_junit(file: Path) -> Counts:
    """The counts of a JUnit file; zero if the runner did not write it."""
    counts = Counts()
    if not file.exists():
        return counts
    for case in ElementTree.parse(file).iter("testcase"):
        name = f"{case.get('classname', '')} {case.get('name', '')}".strip()
        counts.slowest.append(Timed(name, float(case.get("time", "0"))))
        if case.find("failure") is not None or case.find("error") is not None:
            counts.failed += 1
            counts.failed_names.append(name)
        elif case.find("skipped") is None:
            counts.passed += 1
    return counts


def from_pytest(output: str) -> Counts:
    """The sums over all pytest runs, or suites of runs, in this output; errors count as failures."""
    counts = Counts()
    for line in output.splitlines():
        if closing := CLOSING_LINE.match(line):
            for number, word in re.findall(r"(\d+) ([a-z]+)", closing[1]):
                if word == "passed":
                    counts.passed += int(number)
                elif word in ("failed", "error", "errors"):
                    counts.failed += int(number)
        elif suite := SUITE_LINE.match(line):
            counts.passed += sum(int(number) for number in suite[1].split(" + "))
        elif duration := DURATION_LINE.match(line):
            counts.slowest.append(Timed(f"{duration[3]} ({duration[2]})", float(duration[1])))
        elif failed := FAILED_LINE.match(line):
            counts.failed_names.append(failed[1])
    return counts
