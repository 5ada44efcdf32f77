"""Draws the report of a run as one page without scripts: a lane for each worker, and the figures as tables."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from pgdibs.plugin.inputs import sentence

PHASES = {
    "start_up": "start-up",
    "import": "import",
    "template": "template",
    "database": "waiting for a database",
    "reset": "resets",
    "tests": "tests",
    "idle": "idle",
}
"""The phases, in the order of the legend and the tables, and what they are called."""

TICKS = 8
"""How many marks the axis has at most."""

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --text: #1d2129; --quiet: #5c6470; --line: #dfe2e6; --track: #f0f1f3;
  --start_up: #0072b2; --import: #56b4e9; --template: #e69f00; --database: #d55e00; --reset: #cc79a7; --tests: #009e73;
  --idle: #d3d7dd; --crash: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #15181d; --text: #e6e8ec; --quiet: #9aa3b0; --line: #2c323b;
  --track: #1e232a; --start_up: #3f95d1; --import: #8accf2; --template: #e9ad2f; --database: #e8743b;
  --reset: #d997bb; --tests: #2bb58c; --idle: #3d4550; --crash: #f2857c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 72rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.4rem; font-weight: 650; }
h2 { margin: 2.25rem 0 .75rem; font-size: 1rem; font-weight: 650; }
p { margin: .25rem 0 0; color: var(--quiet); overflow-wrap: anywhere; }
ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0 0 .75rem; padding: 0; list-style: none; font-size: .85rem; }
li::before { content: ""; display: inline-block; width: .75rem; height: .75rem; margin-right: .4rem; border-radius: 2px;
  vertical-align: -1px; background: var(--phase); }
.lanes { display: grid; grid-template-columns: minmax(3rem, max-content) 1fr; gap: 4px .75rem; align-items: center; }
.name { max-width: 12rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-size: .85rem; text-align: right; }
.lane { position: relative; height: 22px; border-radius: 3px; background: var(--track); overflow: hidden; }
.lane i { position: absolute; top: 0; bottom: 0; min-width: 1px; background: var(--phase); }
.lane b { position: absolute; top: 0; bottom: 0; padding: 0 .4rem; font-size: .75rem; line-height: 22px; color: var(--crash); }
.axis { position: relative; height: 1.4rem; border-top: 1px solid var(--line); font-size: .75rem; color: var(--quiet); }
.axis span { position: absolute; padding-top: 2px; transform: translateX(-50%); white-space: nowrap; }
.axis span:first-child { transform: none; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; color: var(--quiet); }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
"""


def page(report: dict[str, Any]) -> str:
    """The page of the report that `RunReport.as_json` returns."""
    total, seconds = report["seconds"]["total"], report["seconds"]
    facts = [
        f"{report['started_at']}, run {report['run']}",
        f"{_seconds(total)}: {_mean_of(seconds, total)}",
        _template_line(report["template"]),
    ]
    if seconds["start_up"] + seconds["import"] > total / 3:
        facts.append(
            "Start-up and import take more than a third of this run: `pgdibs diagnose -- pytest …` says what takes so long."
        )
    legend = "".join(f'<li style="--phase: var(--{phase})">{escape(name)}</li>' for phase, name in PHASES.items())
    lanes = [("controller", report["controller"], None)] if report["controller"] else []
    lanes += [(each["worker"], each["lane"], each["ended"] if each["crashed"] else None) for each in report["workers"]]
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(report['pool'])}: where the time of a test run went</title>\n<style>{STYLE}</style>\n"
        f"<h1>Where the time of a test run on {escape(report['pool'])} went</h1>\n"
        + "".join(f"<p>{escape(fact)}</p>\n" for fact in facts if fact)
        + f'<h2>Workers</h2>\n<ul>{legend}</ul>\n<div class="lanes">\n'
        + "".join(_lane(name, lane, crashed_at, total) for name, lane, crashed_at in lanes)
        + f'<span></span><div class="axis">{_axis(total)}</div>\n</div>\n'
        + f'<h2>Seconds</h2>\n<div class="table">{_table(report)}</div>\n</html>\n'
    )


def _mean_of(seconds: dict[str, float], total: float) -> str:
    parts = [f"{name} {_share(seconds[phase], total)}" for phase, name in PHASES.items() if seconds[phase] >= 0.0005 * total]
    return ", ".join(parts)


def _template_line(template: dict[str, Any]) -> str:
    if template["built"] != "by this run":
        return f"The template was {'reused' if template['built'] == 'reused' else 'built by the daemon'}."
    why = f": {sentence(template['input_changes'])}" if template["input_changes"] is not None else ""
    return f"The template was built by this run in {_seconds(template['seconds'])}{why}."


def _lane(name: str, lane: list[list[Any]], crashed_at: Any, total: float) -> str:
    parts = "".join(
        f'<i style="--phase: var(--{phase}); left: {_percent(begin, total)}; width: {_percent(end - begin, total)}" '
        f'title="{escape(PHASES[phase])}: {_seconds(end - begin)}, from {_seconds(begin)} to {_seconds(end)}"></i>'
        for phase, begin, end in lane
    )
    crash = f'<b style="left: {_percent(crashed_at, total)}">crashed</b>' if crashed_at is not None else ""
    shown = escape(str(name))
    return f'<span class="name" title="{shown}">{shown}</span><div class="lane">{parts}{crash}</div>\n'


def _axis(total: float) -> str:
    step = next(
        unit * 10**power for power in range(-3, 8) for unit in (1, 2, 5) if total <= TICKS * unit * 10**power or power == 7
    )
    marks = [number * step for number in range(TICKS + 1) if number * step <= total * 0.98]
    return "".join(f'<span style="left: {_percent(mark, total)}">{mark:g} s</span>' for mark in marks)


def _table(report: dict[str, Any]) -> str:
    header = ["worker", *PHASES.values(), "tests run", "peak memory", "connections"]
    rows = [_row([each["worker"], *_times(each["seconds"]), *_takes(each)]) for each in report["workers"]]
    mean = _row(["the run", *_times(report["seconds"]), "", "", ""]) if len(report["workers"]) > 1 else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}{mean}</tbody></table>"


def _times(seconds: dict[str, float]) -> list[str]:
    return [f"{seconds[phase]:.2f}" for phase in PHASES]


def _takes(worker: dict[str, Any]) -> list[str]:
    return [str(worker["tests"]), f"{worker['peak_rss_mb']} MB", str(worker["connections"])]


def _row(cells: Iterable[Any]) -> str:
    return f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def _share(seconds: float, total: float) -> str:
    return f"{100 * seconds / total:.0f} %" if total > 0 else "0 %"


def _percent(seconds: float, total: float) -> str:
    return f"{100 * seconds / total:.3f}%" if total > 0 else "0%"
