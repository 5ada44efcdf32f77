"""Prints how pytest-xdist's own schedulers hand out tests of given durations, for the tests of `pgdibs diagnose`.

    .venv/bin/python scripts/xdist-schedules.py >crates/pgdibs-cli/src/diagnose/schedule/golden/xdist.json

The nodes run nothing: they keep the tests that they were sent, and count time.
"""

from __future__ import annotations

import json
import random
import sys
from types import SimpleNamespace
from typing import Any

from xdist.scheduler import (  # type: ignore[import-untyped]
    LoadFileScheduling,
    LoadScheduling,
    LoadScopeScheduling,
    WorkStealingScheduling,
)

SCHEDULERS: dict[str, Any] = {
    "load": LoadScheduling,
    "worksteal": WorkStealingScheduling,
    "loadfile": LoadFileScheduling,
    "loadscope": LoadScopeScheduling,
}
SUITES = [(1, 40, 5, 0.01), (2, 7, 3, 0.1), (3, 120, 9, 0.02), (4, 1, 1, 1.0)]
"""Seed, tests, files, seconds."""


class Node:
    """A worker for the scheduler."""

    def __init__(self, number: int) -> None:
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.queue: list[int] = []
        self.stolen: list[int] | None = None
        self.shutting_down = False

    def send_runtest_some(self, tests: list[int]) -> None:
        """Take tests."""
        self.queue.extend(tests)

    def send_steal(self, tests: list[int]) -> None:
        """Note which tests to give back."""
        self.stolen = tests

    def shutdown(self) -> None:
        """Run what is left."""
        self.shutting_down = True

    def starts(self) -> bool:
        """A worker starts a test when it knows the next one, or that there is none."""
        return len(self.queue) > 1 or bool(self.queue and self.shutting_down)


def give_back(scheduler: Any, nodes: list[Node]) -> None:
    """Give back what is stolen, until nothing more is."""
    while robbed := [node for node in nodes if node.stolen is not None]:
        for node in robbed:
            stolen, node.stolen = node.stolen or [], None
            node.queue = [test for test in node.queue if test not in stolen]
            scheduler.remove_pending_tests_from_node(node, stolen)


def run(dist: str, workers: int, ids: list[str], seconds: list[float]) -> dict[str, Any]:
    """The order of the tests of each worker, and when the last one ends."""
    option = SimpleNamespace(tx=["popen"] * workers, loadscopereorder=True, maxschedchunk=None)
    config = SimpleNamespace(option=option, getvalue=option.__getattribute__, getoption=option.__getattribute__, hook=None)
    scheduler = SCHEDULERS[dist](config)
    scheduler.log = lambda *_: None
    nodes = [Node(number) for number in range(workers)]
    for node in nodes:
        scheduler.add_node(node)
    for node in nodes:
        scheduler.add_node_collection(node, ids)
    scheduler.schedule()
    give_back(scheduler, nodes)
    now, running = 0.0, {}
    order: list[list[int]] = [[] for _ in nodes]
    while True:
        for number, node in enumerate(nodes):
            if number not in running and node.starts():
                running[number] = (now + seconds[node.queue[0]], now)
        if not running:
            break
        first = min(running, key=lambda number: (running[number][0], number))
        now, begun = running.pop(first)
        test = nodes[first].queue.pop(0)
        order[first].append(test)
        scheduler.mark_test_complete(nodes[first], test, now - begun)
        give_back(scheduler, nodes)
        if scheduler.tests_finished:
            for node in nodes:
                node.shutdown()
    assert sum(map(len, order)) == len(ids)
    return {"dist": dist, "workers": workers, "seconds": round(now, 3), "order": order}


def suite(seed: int, count: int, files: int, scale: float) -> tuple[list[str], list[float]]:
    """Tests in files and classes, one in five of them long."""
    chosen = random.Random(seed)
    ids = [f"t{number * files // count}.py::{'C::' if number // 3 % 2 else ''}x{number}" for number in range(count)]
    return ids, [round(chosen.choice([1, 1, 1, 3, 20]) * scale * (1 + chosen.random()), 3) for _ in ids]


def main() -> None:
    """Print all suites with all schedulers on 1, 2 and 4 workers."""
    found = []
    for ids, seconds in (suite(*parameters) for parameters in SUITES):
        cases = [run(dist, workers, ids, seconds) for dist in SCHEDULERS for workers in (1, 2, 4)]
        found.append({"ids": ids, "seconds": seconds, "cases": cases})
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
