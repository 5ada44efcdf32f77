"""The jobs cannot deadlock, and the counts match the output of runners."""

from __future__ import annotations

from pathlib import Path

import pytest
from runner_counts import Counts, Timed, from_junit, from_pytest
from tasks import TASKS


@pytest.mark.parametrize("chosen", ["check", "test", "test-all"])
def test_tasks_of_jobs_cannot_deadlock(chosen: str) -> None:
    tasks = [task for task in TASKS if chosen in task.sets]
    jobs = [[task for task in tasks if task.job == job] for job in sorted({task.job for task in tasks})]
    names = {task.name for task in tasks}
    ended: set[str] = set()
    while True:
        nexts = [job[0] for job in jobs if job and set(job[0].needs) & names <= ended]
        if not nexts:
            break
        ended.add(nexts[0].name)
        jobs = [job[1:] if job and job[0] is nexts[0] else job for job in jobs]
    assert ended == names and len(names) == len(tasks)


def test_each_need_is_a_task() -> None:
    assert {need for task in TASKS for need in task.needs} <= {task.name for task in TASKS}


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


def test_missing_junit_file_counts_nothing(tmp_path: Path) -> None:
    assert from_junit(tmp_path / "absent.xml") == Counts()
