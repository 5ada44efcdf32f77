"""The table of parts cannot hang, and the counts come out of runners' real output."""

from __future__ import annotations

from pathlib import Path

from parts import PARTS
from runner_counts import Counts, Timed, from_junit, from_pytest


def test_each_need_is_an_earlier_part_of_its_lane_or_one_of_the_side_lane() -> None:
    seen: set[str] = set()
    side = {part.name for part in PARTS if part.lane == "side"}
    for part in PARTS:
        allowed = {other.name for other in PARTS if other.name in seen and other.lane == part.lane}
        assert set(part.needs) <= (allowed | side if part.lane == "main" else allowed), part.name
        seen.add(part.name)
    assert len(seen) == len(PARTS)


def test_pytest_closing_lines_are_summed_over_runs() -> None:
    output = "\n".join(
        [
            "=========== slowest 10 durations ===========",
            "3.21s call     tests/test_orders.py::test_total[a b]",
            "0.50s setup    tests/test_orders.py::test_other",
            "FAILED tests/test_orders.py::test_total - assert 1 == 2",
            "=========== 1 failed, 12 passed, 2 warnings in 3.90s ===========",
            "300 passed in 61.20s (0:01:01)",
            "1 error in 0.20s",
            "ok   two at once: 301 + 302 passed in 61.2 s, left behind: 0",
            "FAIL shards: 150 + 0 passed in 61.2 s, left behind: 1",
            "we have 7 passed in mind",
        ]
    )
    counts = from_pytest(output)
    assert (counts.passed, counts.failed) == (915, 2)
    assert counts.slowest[0] == Timed("tests/test_orders.py::test_total[a b] (call)", 3.21)
    assert counts.failed_names == ["tests/test_orders.py::test_total"]


def test_junit_counts_failures_and_errors_but_no_skips(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    file.write_text(
        '<testsuites><testsuite><testcase classname="core" name="a" time="1.5"/>'
        '<testcase classname="core" name="b" time="0.1"><failure/></testcase>'
        '<testcase classname="core" name="c" time="0.1"><error/></testcase>'
        '<testcase classname="core" name="d" time="0"><skipped/></testcase></testsuite></testsuites>'
    )
    counts = from_junit(file)
    assert (counts.passed, counts.failed) == (1, 2)
    assert counts.failed_names == ["core b", "core c"]
    assert counts.slowest[0] == Timed("core a", 1.5)


def test_a_runner_that_wrote_no_junit_counts_nothing(tmp_path: Path) -> None:
    assert from_junit(tmp_path / "absent.xml") == Counts()
