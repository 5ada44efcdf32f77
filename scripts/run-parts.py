"""Runs the parts of a set, each with its log and its time: run-parts.py check|test|test-all [PART NAME...].

What the tests keep of logs and pages, and a list of the processes that ran, lies beside the parts' logs for the last part.

Ends with the ten slowest parts, the ten slowest tests, and one line `N passed, N failed` that counts every test of the runners
and every other part as one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from parts import LAST, PARTS, Part
from process_list import ProcessList
from runner_counts import Counts, Timed, from_junit, from_pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target")))
LOGS = TARGET / "test-logs"
KEPT = LOGS / "kept"
HEARTBEAT_SECONDS = 60.0
TAIL_LINES = 60


@dataclass
class Outcome:
    """How one part ended."""

    part: Part
    seconds: float
    problem: str = ""
    counts: Counts = field(default_factory=Counts)


class Runner:
    """Runs the parts in two lanes and keeps what came of each."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.outcomes: dict[str, Outcome] = {}
        self.ended = {part.name: threading.Event() for part in parts}
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.printing = threading.Lock()
        self.started = time.monotonic()
        self.stopping = False

    def say(self, text: str) -> None:
        with self.printing:
            print(f"[{time.monotonic() - self.started:6.1f} s] {text}", flush=True)

    def run(self) -> None:
        """Runs both lanes to their ends, then what looks at all that they left."""
        lanes = sorted({part.lane for part in self.parts} - {LAST})
        threads = [threading.Thread(target=self.run_lane, args=(lane,), daemon=True) for lane in lanes]
        for thread in threads:
            thread.start()
        with ProcessList(LOGS / "processes.log"):
            for thread in threads:
                thread.join()
        self.run_lane(LAST)

    def run_lane(self, lane: str) -> None:
        for part in self.parts:
            if part.lane != lane or self.stopping:
                continue
            try:
                outcome = self.run_after_needs(part)
            except Exception as error:  # Whatever it is, the parts that wait for this one must hear of it.
                outcome = Outcome(part, 0.0, f"could not be run: {error!r}", Counts(failed=1))
                self.say(f"FAILED {part.name}: {outcome.problem}")
            self.outcomes[part.name] = outcome
            self.ended[part.name].set()

    def run_after_needs(self, part: Part) -> Outcome:
        for need in part.needs:
            if need not in self.ended:
                continue
            if not self.ended[need].is_set():
                self.say(f"{part.name} waits for {need}")
                self.ended[need].wait()
            if self.outcomes[need].problem:
                self.say(f"FAILED {part.name}: not run, {need} failed")
                return Outcome(part, 0.0, f"not run, {need} failed", Counts(failed=1))
        return self.run_part(part)

    def run_part(self, part: Part) -> Outcome:
        log = LOGS / (re.sub(r"[^a-z0-9]+", "-", part.name.lower()).strip("-") + ".log")
        junit = TARGET / part.junit if part.junit else None
        if junit:
            junit.unlink(missing_ok=True)
        self.say(f"start  {part.name}")
        begun = time.monotonic()
        problem = self.run_command(part, log, begun)
        outcome = Outcome(part, time.monotonic() - begun, problem)
        text = log.read_text(errors="replace")
        if junit and junit.exists():
            shutil.copyfile(junit, log.with_suffix(".xml"))
        if junit or part.pytest:
            outcome.counts = from_junit(junit) if junit else from_pytest(text)
            if outcome.counts.failed and not outcome.problem:
                outcome.problem = f"{outcome.counts.failed} failed, though its exit status was 0"
            if outcome.counts.passed + outcome.counts.failed == 0 and not outcome.problem:
                outcome.problem = "ran no test"
            if outcome.problem and not outcome.counts.failed:
                outcome.counts.failed = 1
        else:
            outcome.counts = Counts(failed=1) if outcome.problem else Counts(passed=1)
        self.report(outcome, log, text)
        return outcome

    def run_command(self, part: Part, log: Path, begun: float) -> str:
        """Runs the command into its log; returns what went wrong, or nothing."""
        environment = {**os.environ, "CARGO_TERM_COLOR": "never", "PYTHONUNBUFFERED": "1", "PGDIBS_TEST_LOGS": str(KEPT)}
        for name, value in part.environment.items():
            environment[name] = value.format(repository=REPOSITORY, path=os.environ["PATH"])
        with log.open("wb") as output:
            child = subprocess.Popen(
                part.command,
                cwd=REPOSITORY / part.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.children[part.name] = child
            while True:
                left = part.timeout_seconds - (time.monotonic() - begun)
                try:
                    status = child.wait(min(HEARTBEAT_SECONDS, max(left, 0.01)))
                    return "" if status == 0 else f"exit status {status}"
                except subprocess.TimeoutExpired:
                    if left <= HEARTBEAT_SECONDS and time.monotonic() - begun >= part.timeout_seconds:
                        end_group(child)
                        return f"still running after its limit of {part.timeout_seconds:.0f} s"
                    self.say(f"       {part.name}: {time.monotonic() - begun:.0f} s; {last_line(log)}")
                finally:
                    if child.poll() is not None:
                        self.children.pop(part.name, None)

    def report(self, outcome: Outcome, log: Path, text: str) -> None:
        counted = f", {outcome.counts.passed} passed" if outcome.part.junit or outcome.part.pytest else ""
        if not outcome.problem:
            self.say(f"ok     {outcome.part.name} ({outcome.seconds:.1f} s{counted})")
            return
        counted += f", {outcome.counts.failed} failed" if counted else ""
        tail = "\n".join(f"    | {line}" for line in text.splitlines()[-TAIL_LINES:])
        what = f"{outcome.part.name} ({outcome.seconds:.1f} s{counted}): {outcome.problem}"
        self.say(f"FAILED {what}\n{tail}\n    whole log: {log}")

    def stop(self) -> None:
        """Ends every running part; for Ctrl-C."""
        self.stopping = True
        for child in list(self.children.values()):
            end_group(child)


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Ends a part with all it started: politely, after ten seconds not so."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sent)
            child.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def last_line(log: Path) -> str:
    """The last line of a log, cut to a screen's width."""
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1][:100] if lines else "no output yet"


def print_slowest(title: str, timed: list[Timed]) -> None:
    if timed:
        print(f"\n{title}")
        for one in sorted(timed, key=lambda one: -one.seconds)[:10]:
            print(f"  {one.seconds:7.1f} s  {one.name}")


def print_summary(outcomes: list[Outcome], seconds: float) -> int:
    """Prints the end of the run; returns the exit status."""
    print_slowest("the ten slowest parts", [Timed(one.part.name, one.seconds) for one in outcomes])
    print_slowest("the ten slowest tests", [test for one in outcomes for test in one.counts.slowest])
    failures = [one for one in outcomes if one.problem]
    if failures:
        print("\nfailed")
        for one in failures:
            print(f"  {one.part.name}: {one.problem}")
            for name in one.counts.failed_names[:20]:
                print(f"    {name}")
    passed = sum(one.counts.passed for one in outcomes)
    failed = sum(one.counts.failed for one in outcomes)
    print(f"\n{len(outcomes)} parts in {seconds:.0f} s")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failures or failed or not passed else 0


def main() -> int:
    """Picks the parts and runs them."""
    chosen_set, only = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    parts = [part for part in PARTS if chosen_set in part.sets]
    unknown = set(only) - {part.name for part in parts}
    if not parts or unknown:
        print(__doc__, file=sys.stderr)
        print(f"parts of {chosen_set or 'test'}: {', '.join(part.name for part in parts or PARTS)}", file=sys.stderr)
        return 2
    if only:
        parts = [part for part in parts if part.name in only]
    if any(part.lane != LAST for part in parts):
        shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    runner = Runner(parts)
    try:
        runner.run()
    except KeyboardInterrupt:
        runner.stop()
        return 130
    return print_summary([runner.outcomes[part.name] for part in parts], time.monotonic() - runner.started)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell ignores SIGINT for what it runs in the background, children inherit that, and tests of Ctrl-C would wait in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
