"""Runs the tasks of a set, with a log and a time for each: run-tasks.py check|test|test-all [TASK NAME...].

The logs and pages that tests keep, and a list of the processes that ran, are beside the logs of the tasks, for the last task.

Prints at the end the ten slowest tasks, the ten slowest tests, and `N passed, N failed`, which counts every test of a runner and
every other task as one.
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

from process_list import ProcessList
from runner_counts import Counts, Timed, from_junit, from_pytest
from tasks import LAST, TASKS, Task

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target")))
LOGS = TARGET / "test-logs"
KEPT = LOGS / "kept"
HEARTBEAT_SECONDS = 60.0
TAIL_LINES = 60


@dataclass
class Outcome:
    """The result of a task."""

    task: Task
    seconds: float
    problem: str = ""
    counts: Counts = field(default_factory=Counts)


class Runner:
    """Runs the tasks in two jobs, and stores their outcomes."""

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks
        self.outcomes: dict[str, Outcome] = {}
        self.ended = {task.name: threading.Event() for task in tasks}
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.printing = threading.Lock()
        self.started = time.monotonic()
        self.stopping = False

    def print(self, text: str) -> None:
        """Prints a line with the time since the start."""
        with self.printing:
            print(f"[{time.monotonic() - self.started:6.1f} s] {text}", flush=True)

    def run(self) -> None:
        """Runs both jobs to their ends, then the tasks that check the files they left."""
        jobs = sorted({task.job for task in self.tasks} - {LAST})
        threads = [threading.Thread(target=self.run_job, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        with ProcessList(LOGS / "processes.log"):
            for thread in threads:
                thread.join()
        self.run_job(LAST)

    def run_job(self, job: str) -> None:
        for task in self.tasks:
            if task.job != job or self.stopping:
                continue
            try:
                outcome = self.run_after_needs(task)
            except Exception as error:  # Any error must reach the tasks that wait for this one.
                outcome = Outcome(task, 0.0, f"could not be run: {error!r}", Counts(failed=1))
                self.print(f"FAILED {task.name}: {outcome.problem}")
            self.outcomes[task.name] = outcome
            self.ended[task.name].set()

    def run_after_needs(self, task: Task) -> Outcome:
        for need in task.needs:
            if need not in self.ended:
                continue
            if not self.ended[need].is_set():
                self.print(f"{task.name} waits for {need}")
                self.ended[need].wait()
            if self.outcomes[need].problem:
                self.print(f"FAILED {task.name}: not run, {need} failed")
                return Outcome(task, 0.0, f"not run, {need} failed", Counts(failed=1))
        return self.run_task(task)

    def run_task(self, task: Task) -> Outcome:
        log = LOGS / (re.sub(r"[^a-z0-9]+", "-", task.name.lower()).strip("-") + ".log")
        junit = TARGET / task.junit if task.junit else None
        if junit:
            junit.unlink(missing_ok=True)
        self.print(f"start  {task.name}")
        begun = time.monotonic()
        problem = self.run_command(task, log, begun)
        outcome = Outcome(task, time.monotonic() - begun, problem)
        text = log.read_text(errors="replace")
        if junit and junit.exists():
            shutil.copyfile(junit, log.with_suffix(".xml"))
        if junit or task.pytest:
            outcome.counts = from_junit(junit) if junit else from_pytest(text)
            if outcome.counts.failed and not outcome.problem:
                outcome.problem = f"{outcome.counts.failed} failed, though its exit status was 0"
            if outcome.counts.passed + outcome.counts.failed == 0 and not outcome.problem:
                outcome.problem = "ran no test"
            if outcome.problem and not outcome.counts.failed:
                outcome.counts.failed = 1
        else:
            outcome.counts = Counts(failed=1) if outcome.problem else Counts(passed=1)
        self.print_outcome(outcome, log, text)
        return outcome

    def run_command(self, task: Task, log: Path, begun: float) -> str:
        """Runs the command with its output in the log; returns the problem, or an empty string."""
        environment = {**os.environ, "CARGO_TERM_COLOR": "never", "PYTHONUNBUFFERED": "1", "PGDIBS_TEST_LOGS": str(KEPT)}
        for name, value in task.environment.items():
            environment[name] = value.format(repository=REPOSITORY, path=os.environ["PATH"])
        with log.open("wb") as output:
            child = subprocess.Popen(
                task.command,
                cwd=REPOSITORY / task.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.children[task.name] = child
            while True:
                left = task.timeout_seconds - (time.monotonic() - begun)
                try:
                    status = child.wait(min(HEARTBEAT_SECONDS, max(left, 0.01)))
                    return "" if status == 0 else f"exit status {status}"
                except subprocess.TimeoutExpired:
                    if left <= HEARTBEAT_SECONDS and time.monotonic() - begun >= task.timeout_seconds:
                        end_group(child)
                        return f"still running after its limit of {task.timeout_seconds:.0f} s"
                    self.print(f"       {task.name}: {time.monotonic() - begun:.0f} s; {last_line(log)}")
                finally:
                    if child.poll() is not None:
                        self.children.pop(task.name, None)

    def print_outcome(self, outcome: Outcome, log: Path, text: str) -> None:
        counted = f", {outcome.counts.passed} passed" if outcome.task.junit or outcome.task.pytest else ""
        if not outcome.problem:
            self.print(f"ok     {outcome.task.name} ({outcome.seconds:.1f} s{counted})")
            return
        counted += f", {outcome.counts.failed} failed" if counted else ""
        tail = "\n".join(f"    | {line}" for line in text.splitlines()[-TAIL_LINES:])
        what = f"{outcome.task.name} ({outcome.seconds:.1f} s{counted}): {outcome.problem}"
        self.print(f"FAILED {what}\n{tail}\n    full log: {log}")

    def stop(self) -> None:
        """Ends every running task; for Ctrl-C."""
        self.stopping = True
        for child in list(self.children.values()):
            end_group(child)


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Ends a task with all its processes: by SIGTERM, after ten seconds by SIGKILL."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, signal_number)
            child.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def last_line(log: Path) -> str:
    """The last line of a log, cut to 100 characters."""
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1][:100] if lines else "no output yet"


def print_slowest(title: str, timed: list[Timed]) -> None:
    if timed:
        print(f"\n{title}")
        for one in sorted(timed, key=lambda one: -one.seconds)[:10]:
            print(f"  {one.seconds:7.1f} s  {one.name}")


def print_summary(outcomes: list[Outcome], seconds: float) -> int:
    """Prints the summary of the run; returns the exit status."""
    print_slowest("the ten slowest tasks", [Timed(one.task.name, one.seconds) for one in outcomes])
    print_slowest("the ten slowest tests", [test for one in outcomes for test in one.counts.slowest])
    failures = [one for one in outcomes if one.problem]
    if failures:
        print("\nfailed")
        for one in failures:
            print(f"  {one.task.name}: {one.problem}")
            for name in one.counts.failed_names[:20]:
                print(f"    {name}")
    passed = sum(one.counts.passed for one in outcomes)
    failed = sum(one.counts.failed for one in outcomes)
    print(f"\n{len(outcomes)} tasks in {seconds:.0f} s")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failures or failed or not passed else 0


def main() -> int:
    """Selects the tasks and runs them."""
    chosen_set, only = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    tasks = [task for task in TASKS if chosen_set in task.sets]
    unknown = set(only) - {task.name for task in tasks}
    if not tasks or unknown:
        print(__doc__, file=sys.stderr)
        print(f"tasks of {chosen_set or 'test'}: {', '.join(task.name for task in tasks or TASKS)}", file=sys.stderr)
        return 2
    if only:
        tasks = [task for task in tasks if task.name in only]
    if any(task.job != LAST for task in tasks):
        shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    runner = Runner(tasks)
    try:
        runner.run()
    except KeyboardInterrupt:
        runner.stop()
        return 130
    return print_summary([runner.outcomes[task.name] for task in tasks], time.monotonic() - runner.started)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell makes background commands ignore SIGINT, and children inherit that, so tests of Ctrl-C would hang.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
