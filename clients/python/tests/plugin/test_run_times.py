"""Where the time of a run went, without a run: the phases of a process, the lanes of a run, the page, the names of inputs."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

import pytest

from pgdibs.plugin import timeline as timeline_module
from pgdibs.plugin.footprint import count_connections
from pgdibs.plugin.inputs import MOST_BYTES, MOST_INPUTS, inputs_for_daemon, sentence
from pgdibs.plugin.report_page import page
from pgdibs.plugin.run_times import RunTimes, lane_of
from pgdibs.plugin.share import Share
from pgdibs.plugin.summary import time_lines
from pgdibs.plugin.timeline import PHASES, Segment, Timeline, begin_timeline


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("pgdibs.plugin.timeline.time.monotonic", clock.monotonic)
    return clock


def after(clock: Clock, seconds: float, timeline: Timeline, phase: str) -> None:
    clock.now += seconds
    timeline.switch(phase)


def test_phases_of_process_add_up_to_its_time(clock: Clock) -> None:
    timeline = Timeline(clock.now, has_lane=True)
    after(clock, 2.0, timeline, "import")
    clock.now += 0.5
    with timeline.during("database"):
        clock.now += 0.5
    after(clock, 0.5, timeline, "idle")
    after(clock, 3.0, timeline, "tests")
    after(clock, 0.25, timeline, "idle")
    after(clock, 0.005, timeline, "tests")  # the pause before the next test
    after(clock, 0.25, timeline, "idle")
    clock.now += 4.0
    age, seconds, phase, since = timeline.measured()
    assert phase == "idle" and since == pytest.approx(7.005)
    assert age == pytest.approx(11.005) == sum(seconds.values())
    expected = {"start_up": 2.0, "import": 1.0, "database": 0.5, "idle": 7.0, "tests": 0.505}
    assert {name: each for name, each in seconds.items() if each} == pytest.approx(expected)
    assert timeline.lane is not None
    lane = [phase for phase, _begin, _end in timeline.lane]
    assert lane == ["start_up", "import", "database", "import", "idle", "tests"]
    assert all(one[2] == other[1] for one, other in zip(timeline.lane, timeline.lane[1:]))


def test_lane_is_sent_piece_by_piece(clock: Clock) -> None:
    received: list[Segment] = []
    timeline = Timeline(clock.now, has_lane=True)
    for phase in ("import", "tests", "idle", "tests", "idle", "tests", "reset", "tests"):
        after(clock, 0.006, timeline, phase)
        first, new = timeline.new_segments()
        received[first:] = new
        assert len(new) <= 2
    assert received == timeline.lane
    assert Timeline(clock.now, has_lane=False).new_segments() == (0, [])


def test_timeline_starts_with_the_process() -> None:
    timeline_module._has_begun = False
    loaded_at = time.time()
    own = begin_timeline(loaded_at, is_own_process=True, has_lane=False)
    assert own.started < time.monotonic() - 0.01, "the interpreter and pytest have taken longer"
    again = begin_timeline(loaded_at - 3600, is_own_process=True, has_lane=False)
    assert time.monotonic() - again.started < 1, "a second run of this process begins now"
    timeline_module._has_begun = False
    below = begin_timeline(loaded_at, is_own_process=False, has_lane=False)
    assert below.started > own.started, "the program before pytest.main is no part of the run"


def worker(name: str, phase: str, since: float, age: float, is_final: bool = True, **seconds: float) -> Share:
    seconds = {**dict.fromkeys(PHASES, 0.0), **seconds}
    return Share(name, is_final, age=age, seconds=seconds, phase=phase, since=since, tests=3)


def test_run_is_the_mean_of_its_lanes() -> None:
    before = {"start_up": 1.0, "template": 1.0}
    lanes = [
        lane_of(worker("gw0", "idle", 6.0, 7.0, start_up=2.0, tests=4.0, idle=1.0), [], 2.0, 10.0, before, None),
        lane_of(worker("gw1", "tests", 5.0, 8.0, start_up=4.0, tests=4.0), [], 2.0, 10.0, before, None),
    ]
    times = RunTimes(10.0, lanes)
    assert times.seconds == pytest.approx(
        {"start_up": 4.0, "import": 0.0, "template": 1.0, "database": 0.0, "reset": 0.0, "tests": 4.0, "idle": 1.0}
    )
    assert sum(times.seconds.values()) == pytest.approx(10.0)
    assert [lane.idle_at_end for lane in lanes] == [2.0, 0.0]
    assert times.slowest is lanes[1]
    assert time_lines(times) == [
        "the run took 10.0 s: start-up and import 4.00 s (40 %), waiting for databases 0.00 s (0 %), template 1.00 s (10 %), "
        "resets 0.00 s (0 %), tests 4.00 s (40 %), idle workers 1.00 s (10 %), at the end 1.00 s",
        "slowest worker gw1: started at 2.0 s, start-up 4.00 s, import 0.00 s, databases 0.00 s, tests 4.00 s (3), "
        "done at 10.0 s",
        "start-up and import take 40 % of this run: `pgdibs diagnose -- pytest …` says what takes so long and what would "
        "shorten it",
    ]


def test_lane_of_crashed_worker_ends_there() -> None:
    segments = [("start_up", 0.0, 1.0), ("tests", 1.0, 3.0)]
    share = worker("gw0", "tests", 3.0, 3.5, is_final=False, start_up=1.0, tests=2.5)
    lane = lane_of(share, segments, 2.0, 20.0, {}, 7.0)
    assert (lane.end, lane.is_crashed, lane.idle_at_end, lane.done) == (7.0, True, 0.0, 7.0)
    assert lane.seconds["tests"] == pytest.approx(4.0) and lane.seconds["idle"] == 0.0
    assert lane.segments[-1] == ("tests", 5.5, 7.0)
    unknown = lane_of(Share("gw1"), [], 2.0, 20.0, {}, 5.0)
    assert unknown.seconds["start_up"] == 3.0, "it crashed before it said anything"
    interrupted = lane_of(share, segments, 2.0, 20.0, {}, None)
    assert interrupted.seconds["tests"] == pytest.approx(17.0), "it was at work until Ctrl-C"


def test_no_pointer_to_diagnose_below_a_third() -> None:
    times = RunTimes(9.0, [lane_of(worker("main", "tests", 3.0, 9.0, start_up=2.9, tests=6.1), [], 0.0, 9.0, {}, None)])
    (line,) = time_lines(times)
    assert "start-up and import 2.90 s (32 %)" in line and "idle" not in line
    empty = RunTimes(0.0, [])
    assert empty.seconds == dict.fromkeys(PHASES, 0.0) and empty.slowest is None


NASTY = "<script>alert(1)</script>&\"'"


def run_report(**fields: Any) -> dict[str, Any]:
    seconds = {"total": 10.0, **dict.fromkeys(PHASES, 0.0), "start_up": 6.0, "tests": 4.0}
    one = {"worker": NASTY, "began": 0.0, "ended": 7.0, "crashed": True, "tests": 2, "seconds": seconds, "peak_rss_mb": 80}
    workers = [{**one, "connections": 1, "lane": [["start_up", 0.0, 3.0], ["tests", 3.0, 7.0]]}]
    template = {
        "built": "by this run",
        "seconds": 1.0,
        "input_changes": {"changed": [f"{NASTY}.sql"], "added": [], "removed": []},
    }
    parts = {"pool": NASTY, "run": NASTY, "started_at": NASTY, "seconds": seconds, "template": template, "workers": workers}
    return {"version": 1, "controller": [], "slowest": None, "idle_at_end": 0.0, "databases": {}, **parts, **fields}


def test_page_escapes_every_text_and_loads_nothing() -> None:
    text = page(run_report())
    assert "<script" not in text and NASTY not in text
    assert text.count("&lt;script&gt;") >= 5
    assert not re.search(r"https?:|url\(|@import|<link|<img| src=| href=", text)
    assert "prefers-color-scheme: dark" in text
    assert 'style="--phase: var(--tests); left: 30.000%; width: 40.000%"' in text
    assert '<b style="left: 70.000%">crashed</b>' in text
    assert "more than a third" in text


@pytest.mark.parametrize("total", [0.0, 0.0004, 0.3, 7.0, 61.0, 7261.5])
def test_page_has_a_readable_axis_for_any_run(total: float) -> None:
    seconds = {"total": total, **dict.fromkeys(PHASES, 0.0)}
    text = page(run_report(seconds=seconds, workers=[]))
    assert 1 <= len(re.findall(r'<span style="left', text)) <= 9


def test_inputs_are_files_and_directories_when_there_are_too_many() -> None:
    others = {"pgdibs_build": "b" * 64}
    few = inputs_for_daemon({"m/1.sql": "a" * 64}, others)
    assert few == {"m/1.sql": "a" * 12, "pgdibs_build": "b" * 12}
    files = {f"app{number % 7}/migrations/{number:05}_a_name_of_some_length.py": f"{number:064}" for number in range(3000)}
    many = inputs_for_daemon(files, others)
    assert sorted(many) == [*(f"app{number}/migrations/**" for number in range(7)), "pgdibs_build"]
    files["app3/migrations/00003_a_name_of_some_length.py"] = "f" * 64
    assert [name for name, value in inputs_for_daemon(files, others).items() if many[name] != value] == ["app3/migrations/**"]
    wide = inputs_for_daemon({f"{number}/{number}/{number}/{number}/x.sql": "a" * 64 for number in range(4000)}, others)
    assert len(wide) <= MOST_INPUTS and len(json.dumps(wide)) <= MOST_BYTES
    strange = inputs_for_daemon({"a\udc80\n" + "x" * 300: "a" * 64}, {})
    assert all(len(name) <= 200 and name.isprintable() and name.encode() for name in strange)


def test_sentence_names_three_of_each_and_counts_the_rest() -> None:
    changes = {"changed": ["migrations/0042_x.sql"], "added": ["a", "b", "c", "d", "e"], "removed": [], "more": 4}
    assert sentence(changes) == "migrations/0042_x.sql changed; a, b, c added; 6 more"
    assert sentence({"changed": [], "added": [], "removed": [], "more": 0}) == "no input has changed"


def test_connections_to_a_port_are_counted_and_stay_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as one, socket.create_connection(("127.0.0.1", port)):
            assert count_connections({port}) == 2
            assert count_connections({port + 1 if port < 65535 else 1}) == 0
            one.sendall(b"still open")
        assert count_connections({port}) == 0
