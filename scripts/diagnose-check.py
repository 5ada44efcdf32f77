"""Compares what `pgdibs diagnose` predicts with what the layouts take, on three suites; writes the figures into docs/diagnose.md.

    diagnose-check.py [--suite NAME]... [--rounds N] [--resume] [--keep]

It needs a daemon (PGDIBS_URL) and the program (PGDIBS_BIN), as scripts/with-daemon.py gives them, and PyPI for one of the suites.
A round is one diagnosis with one run of everything, and then one run of each layout; the medians of the rounds are compared. Exit
code 0 when each suite has three comparable layouts, all of them within 15 % of their prediction, the recommended one within 10 %
of the best, and when the import that was made slow on purpose is the first lever. `--resume` adds the rounds to those of earlier
calls. `--keep` leaves the page as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs/diagnose.md"
WORK = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "diagnose-check"
BEGIN, END = "<!-- diagnose-check: begin -->", "<!-- diagnose-check: end -->"
NETWORKX = "networkx==3.4.2"
ALL = ["slow-import", "library", "networkx", "shop"]
RUN_SECONDS = 1200.0
WITHIN, COMPARABLE, NEAR_BEST, LAYOUTS_NEEDED = 0.15, 0.10, 0.10, 3

Layout = tuple[int, str]
"""Workers, and the scheduler; 0 workers are pytest without -n."""


@dataclass
class Suite:
    """A command, and where it runs."""

    name: str
    directory: Path
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    predicted: dict[Layout, list[float]] = field(default_factory=dict)
    took: dict[Layout, list[float]] = field(default_factory=dict)
    recommended: list[Layout] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    @property
    def rounds(self) -> Path:
        """The figures of all rounds so far, for a call that adds some."""
        return WORK / f"{self.directory.name}-rounds.json"

    def save(self) -> None:
        """Write the figures of all rounds so far."""
        took, predicted = ([[*layout, seconds] for layout, seconds in of.items()] for of in (self.took, self.predicted))
        self.rounds.write_text(json.dumps([took, predicted, self.recommended, self.load]))

    def resume(self) -> None:
        """Read the figures of earlier calls."""
        if self.rounds.exists():
            took, predicted, recommended, self.load = json.loads(self.rounds.read_text())
            self.took, self.predicted = ({(workers, dist): list(of) for workers, dist, of in all_} for all_ in (took, predicted))
            self.recommended = [(workers, dist) for workers, dist in recommended]

    def run(self, words: list[str]) -> float:
        """Run the command with these options; the seconds that it took."""
        begun = time.monotonic()
        ran = subprocess.run(
            [*self.command, *words],
            cwd=self.directory,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        if ran.returncode != 0:
            raise SystemExit(f"{self.name} {words} ended with {ran.returncode}:\n{ran.stdout[-3000:]}{ran.stderr[-2000:]}")
        return time.monotonic() - begun

    def diagnose(self, *options: str) -> dict[str, Any]:
        """The document of one diagnosis."""
        ran = subprocess.run(
            [os.environ["PGDIBS_BIN"], "diagnose", "--output", "json", *options, "--", *self.command],
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=2 * RUN_SECONDS,
            check=True,
        )
        document: dict[str, Any] = json.loads(ran.stdout)
        # What a prediction that is off was made of.
        (WORK / f"{self.directory.name}-{len(self.load)}.json").write_text(ran.stdout)
        for not_seen in document["not_seen"]:
            print(f"  not seen: {not_seen['what']}: {not_seen['why']}", flush=True)
        return document

    def round(self) -> None:
        """One diagnosis, and one run of each layout."""
        document = self.diagnose("--runs", "1")
        rows = {layout_of(row): row for row in document["layouts"] if row["shards"] == 1}
        for layout, row in rows.items():
            self.predicted.setdefault(layout, []).append(row["seconds"])
        self.recommended += [layout for layout, row in rows.items() if row["is_recommended"]]
        other = [layout for layout in rows if layout[1] == "loadfile"]
        layouts = [(0, ""), (1, "load"), (2, "load"), (4, "load"), *other, *self.recommended, *self.took]
        for layout in dict.fromkeys(layouts):
            if layout in self.predicted:
                seconds = self.run(options_of(layout))
                self.took.setdefault(layout, []).append(seconds)
                print(f"  {name_of(layout)}: {seconds:.1f} s, predicted {self.predicted[layout][-1]:.1f} s", flush=True)

    def problems(self) -> list[str]:
        """What is not as promised."""
        comparable = [layout for layout in self.took if self.is_comparable(layout)]
        found = [
            f"{self.name}: {name_of(layout)} is {self.error(layout):+.0%} off"
            for layout in comparable
            if abs(self.error(layout)) > WITHIN
        ]
        if len(comparable) < LAYOUTS_NEEDED:
            found.append(f"{self.name}: {len(comparable)} layouts are comparable, {LAYOUTS_NEEDED} are needed")
        if self.behind_best() > NEAR_BEST:
            found.append(f"{self.name}: the recommended layout is {self.behind_best():.0%} slower than the best")
        return found

    def is_comparable(self, layout: Layout) -> bool:
        """Whether the layout's own runs differ by little; one run says nothing about that."""
        return len(self.took[layout]) > 1 and spread(self.took[layout]) <= COMPARABLE

    def error(self, layout: Layout) -> float:
        """The prediction's distance from what the layout took, as a part of the latter."""
        took = statistics.median(self.took[layout])
        return (statistics.median(self.predicted[layout]) - took) / took

    def chosen(self) -> Layout:
        """The layout that most of the diagnoses recommended."""
        return statistics.mode(self.recommended)

    def behind_best(self) -> float:
        """How much slower the recommended layout is than the quickest one that ran."""
        best = min(statistics.median(took) for took in self.took.values())
        return statistics.median(self.took[self.chosen()]) / best - 1

    def table(self) -> str:
        """The figures, as Markdown."""
        lines = [f"### {self.name}: `{' '.join(self.command)}`", ""]
        lines += ["| layout | predicted | took | spread of the runs | prediction off by |", "|---|---|---|---|---|"]
        for layout in sorted(self.took):
            took = self.took[layout]
            off = f"{self.error(layout):+.0%}"
            verdict = "" if not self.is_comparable(layout) else " (missed)" if abs(self.error(layout)) > WITHIN else ""
            if not self.is_comparable(layout):
                off = f"not comparable ({off})"
            mark = ", recommended" if layout == self.chosen() else ""
            lines.append(
                f"| {name_of(layout)}{mark} | {statistics.median(self.predicted[layout]):.1f} s "
                f"| {statistics.median(took):.1f} s | ±{spread(took):.0%} | {off}{verdict} |"
            )
        behind = self.behind_best()
        best = "is the best one" if behind <= 0 else f"took {behind:.0%} more than the best one"
        missed = " (missed)" if behind > NEAR_BEST else ""
        return "\n".join([*lines, "", f"The recommended layout {best}{missed}."])


def spread(seconds: list[float]) -> float:
    """Half the distance between the quickest and the slowest run, as a part of the median."""
    return (max(seconds) - min(seconds)) / 2 / statistics.median(seconds)


def layout_of(row: dict[str, Any]) -> Layout:
    """The layout of a row of the document."""
    return row["workers"], row["dist"] or ""


def options_of(layout: Layout) -> list[str]:
    """The options of pytest for a layout."""
    workers, dist = layout
    return ["-n", str(workers), "--dist", dist] if workers else ["-n", "0"]


def name_of(layout: Layout) -> str:
    """The layout for people."""
    return "without `-n`" if layout[0] == 0 else f"`-n {layout[0]} --dist {layout[1]}`"


def networkx() -> Suite:
    """Graph algorithms with their tests, installed from the sdist; they use no database and no network."""
    target = WORK / "networkx"
    if not (target / "networkx").is_dir():
        uv = shutil.which("uv") or "uv"  # scripts/task.sh has it on the PATH
        command = [uv, "pip", "install", "-q", "--no-deps", "--no-binary", "networkx", "--target", str(target), NETWORKX]
        subprocess.run([*command, "--python", sys.executable], check=True)
    parts = ["algorithms/flow", "algorithms/isomorphism", "generators"]
    command = ["python", "-m", "pytest", "-q", "-p", "no:django", "-p", "no:asyncio", *(f"networkx/{part}" for part in parts)]
    return Suite(f"{NETWORKX} from its sdist", target, command)


def suites() -> dict[str, Suite]:
    """The two examples and a public project."""
    examples = REPOSITORY / "examples"
    return {
        "library": Suite("examples/django-library", examples / "django-library", ["pytest"]),
        "shop": Suite("examples/fastapi-shop", examples / "fastapi-shop", ["pytest"]),
        "networkx": networkx(),
    }


def slow_import() -> tuple[bool, str]:
    """Whether the first lever of a project with an import made slow is that import; and the lever."""
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory) / "library"
        shutil.copytree(REPOSITORY / "examples/django-library", project, ignore=shutil.ignore_patterns("__pycache__"))
        (project / "reporting.py").write_text('"""Imports slowly on purpose."""\n\nimport time\n\ntime.sleep(8)\n')
        (project / "tests/conftest.py").write_text('"""Imports it."""\n\nimport pytest\nimport reporting\n')
        levers = Suite("slow", project, ["pytest"], {"PYTHONPATH": str(project)}).diagnose("--runs", "1")["levers"]
    first = str(levers[0]["text"]) if levers else "none"
    return first.startswith("tests/conftest.py:4 imports reporting"), first


def main() -> int:
    """Run the rounds, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--suite", action="append", choices=["library", "shop", "networkx", "slow-import"], help="not all of them"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often (3)")
    parser.add_argument("--resume", action="store_true", help="add the rounds to those of earlier calls")
    parser.add_argument("--keep", action="store_true", help="do not write the page")
    arguments = parser.parse_args()
    chosen = arguments.suite or ALL
    WORK.mkdir(parents=True, exist_ok=True)
    found: list[str] = []

    def show(name: str, section: str) -> None:
        """Print and write the figures of a suite at once, because all suites together take long."""
        print(section, flush=True)
        if not arguments.keep:
            write(name, section)

    if "slow-import" in chosen:
        is_named, lever = slow_import()
        verdict = "The first lever is it" if is_named else "The first lever is another (missed)"
        show("slow-import", f"### examples/django-library with an import of 8 s in its conftest\n\n{verdict}: “{lever}”.")
        found += [] if is_named else [f"slow import: the first lever is {lever}"]
    for name in [name for name in chosen if name != "slow-import"]:
        suite = suites()[name]
        # Not counted: it compiles modules and builds the template.
        suite.run(["-n", "0"])
        if arguments.resume:
            suite.resume()
        for number in range(arguments.rounds):
            print(f"{suite.name}: round {number + 1}", flush=True)
            suite.round()
            suite.load.append(os.getloadavg()[0])
            suite.save()
        found += suite.problems()
        load = f"load {min(suite.load):.0f} to {max(suite.load):.0f} at the ends of the rounds"
        plural = "" if len(suite.load) == 1 else "s"
        rounds = f"{len(suite.load)} round{plural}, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {load}"
        show(name, f"{suite.table()} {rounds}.")
    print("\n".join(found) or "all as promised")
    return 1 if found else 0


def write(name: str, section: str) -> None:
    """Replace the figures of a suite in the page; those of the others stay."""
    begin, end = BEGIN.replace(":", f" {name}:"), END.replace(":", f" {name}:")
    before, has_begin, rest = PAGE.read_text().partition(begin)
    _old, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        raise SystemExit(f"{PAGE} has no place for {name}: {begin}")
    PAGE.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}")


if __name__ == "__main__":
    sys.exit(main())
