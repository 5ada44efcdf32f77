"""Draws docs/pictures/numbers.svg from the table under "Numbers" in README.md, so that both have the same numbers.

Run it when a number of the table has changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURE = "docs/pictures/numbers.svg"

# The style of the other pictures, light and dark.
STYLE = """  text { font: 14px ui-sans-serif, system-ui, sans-serif; fill: #1f2933; }
  .small { font-size: 12px; fill: #52606d; }
  .ours { fill: #d9f2e3; stroke: #2f855a; stroke-width: 1.5; rx: 4; }
  .others { fill: #f0f4f8; stroke: #829ab1; stroke-width: 1.5; rx: 4; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9fb3c8; }
    .ours { fill: #153a28; stroke: #48bb78; } .others { fill: #1c2733; stroke: #627d98; }
  }"""

DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
RANGE = rf"([\d.]+)(?:{DASH}([\d.]+))?"

LEFT = 230.0
WIDTH = 300.0


@dataclass(frozen=True)
class Bar:
    """One bar: label, length, the text behind it, and whether it is pgdibs."""

    label: str
    value: float
    shown: str
    is_ours: bool = True


def groups(readme: str) -> list[tuple[str, list[Bar]]]:
    """The numbers of the table by group; the bars of a group have one scale. Raises `SystemExit` for an unknown line."""
    lease = found(readme, rf"a lease, from the request to the answer \| p50 {RANGE} ms")
    clean = found(readme, r"fresh clone under that name takes connections \| p50 ≈ ([\d.]+) ms")
    rate = found(readme, rf"the faster strategy\) \| {RANGE}{TIMES}")
    suite = found(readme, r"the (\d+) tests of \[a Django project\].*?\| ([\d.]+) s, ([\d.]+) s")
    tests, alone, ours = suite[0], float(suite[1]), float(suite[2])
    ranged = DASH.join(rate)
    return [
        (
            f"{tests} tests of a Django project, seconds",
            [Bar("pytest-django alone", alone, f"{alone} s", False), Bar("on pgdibs", ours, f"{ours} s")],
        ),
        (
            "one database, milliseconds (p50)",
            [
                Bar("a lease", float(lease[-1]), f"{DASH.join(lease)} ms"),
                Bar("return, then clean again", float(clean[0]), f"≈ {clean[0]} ms"),
            ],
        ),
        (
            "eight callers without a pause, cycles per second",
            [
                Bar("CREATE and DROP DATABASE", 1.0, "1", False),
                Bar("pgdibs, logins included", float(rate[-1]), f"{ranged}{TIMES}"),
            ],
        ),
    ]


def found(readme: str, pattern: str) -> list[str]:
    """The numbers of a line of the table."""
    match = re.search(pattern, readme)
    if match is None:
        raise SystemExit(f"README.md has no line like `{pattern}`; change {Path(__file__).name} with the table")
    return [number for number in match.groups() if number is not None]


def picture(readme: str) -> str:
    """The SVG."""
    parts: list[str] = []
    top = 26
    for title, bars in groups(readme):
        parts.append(f'<text class="small" x="20" y="{top}">{title}</text>')
        longest = max(bar.value for bar in bars)
        for bar in bars:
            width = WIDTH * bar.value / longest
            kind = "ours" if bar.is_ours else "others"
            parts.append(f'<text x="{LEFT - 10:.0f}" y="{top + 25}" text-anchor="end">{bar.label}</text>')
            parts.append(f'<rect class="{kind}" x="{LEFT:.0f}" y="{top + 11}" width="{width:.1f}" height="19"/>')
            parts.append(f'<text x="{LEFT + width + 8:.1f}" y="{top + 25}">{bar.shown}</text>')
            top += 26
        top += 28
    described = "; ".join(f"{title}: {', '.join(f'{bar.label} {bar.shown}' for bar in bars)}" for title, bars in groups(readme))
    height = top - 20
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" width="640" height="{height}" role="img"'
            ' aria-labelledby="title desc">',
            '<title id="title">The numbers</title>',
            f'<desc id="desc">{described}.</desc>',
            f"<style>\n{STYLE}\n</style>",
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    (REPOSITORY / PICTURE).write_text(picture((REPOSITORY / "README.md").read_text(encoding="utf-8")), encoding="utf-8")
