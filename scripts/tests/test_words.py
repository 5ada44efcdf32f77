"""Each list of words.ini finds its words, and nothing else."""

from __future__ import annotations

import pytest
import words


@pytest.mark.parametrize(
    ("path", "text", "lines"),
    [
        ("crates/pgdibs/src/a.rs", "/// The bell.\nfn ring_the_office() {}\nstruct WhereaboutsFile;\n", [1, 2, 3]),
        ("scripts/a.py", "# hand work\nhand_work = 1\nHandWork = 2\nhand = work\n", [1, 2, 3, 4]),
        # Reused words are banned as names only.
        ("crates/pgdibs/src/a.rs", "/// A guard of a door in a room.\nfn guard() {}\nlet door = room;\nstruct Door;\n", [2, 4]),
        ("scripts/a.py", "def _look():\n    look = 1\n", [1]),
        ("scripts/wire/__init__.py", "", [1]),
        ("crates/a/src/wire/mod.rs", "", [1]),
        ("SECURITY.md", "The officer heard it is bellow and manew.\n", []),
    ],
)
def test_words_of_both_lists_are_found(path: str, text: str, lines: list[int]) -> None:
    assert [int(line.split(":")[1]) for line in words.problems(path, text)] == lines


def test_allow_list_has_at_most_ten_patterns() -> None:
    assert len(words.ALLOWED) <= 10
