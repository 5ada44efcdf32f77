"""Each list of words.py finds its words, and nothing else."""

from __future__ import annotations

import pytest
import words


def test_coined_words_in_names_and_text_are_found() -> None:
    text = "/// The bell.\nfn ring_the_office() {}\nstruct WhereaboutsFile;\n"
    found = words.problems("crates/pgdibs/src/a.rs", text)
    assert [line.split(":")[1] for line in found] == ["1", "2", "3"]


def test_coined_phrase_is_found_with_any_separator() -> None:
    found = words.problems("scripts/a.py", "# hand work\nhand_work = 1\nHandWork = 2\nhand = work\n")
    assert [line.split(":")[1] for line in found] == ["1", "2", "3", "4"]


def test_reused_words_are_found_as_names_only() -> None:
    text = "/// A guard of a door in a room.\nfn guard() {}\nlet door = room;\nstruct Door;\n"
    found = words.problems("crates/pgdibs/src/a.rs", text)
    assert [line.split("`")[1] for line in found] == ["guard", "Door"]


def test_private_python_function_with_reused_name_is_found() -> None:
    assert len(words.problems("scripts/a.py", "def _look():\n    look = 1\n")) == 1


@pytest.mark.parametrize(
    "path", ["scripts/wire.py", "scripts/wire/__init__.py", "crates/a/src/wire.rs", "crates/a/src/wire/mod.rs"]
)
def test_module_with_reused_name_is_found(path: str) -> None:
    assert len(words.problems(path, "")) == 1


def test_longer_words_are_no_problem() -> None:
    assert words.problems("docs/a.md", "The officer heard it is bellow and manew.\n") == []


def test_words_not_yet_replaced_in_pages_are_found_elsewhere() -> None:
    for path, count in (("crates/a/src/a.rs", 1), ("docs/a.md", 0), ("scripts/a.py", 1), ("README.md", 1)):
        assert len(words.problems(path, "nobody waits\n")) == count, path


def test_words_not_yet_replaced_are_in_a_list() -> None:
    assert {*words.COINED, *words.REUSED} >= words.NOT_YET_IN_PAGES


def test_allow_list_has_at_most_ten_patterns() -> None:
    assert len(words.ALLOWED) <= 10
