"""Each list of words.py finds its words, and nothing else."""

from __future__ import annotations

import words


def test_coined_words_are_found_in_names_comments_and_text() -> None:
    text = "/// The bell.\nfn ring_the_office() {}\nstruct WhereaboutsFile;\n"
    found = words.problems("crates/pgdibs/src/a.rs", text)
    assert [line.split(":")[1] for line in found] == ["1", "2", "3"]


def test_reused_words_are_found_as_names_alone() -> None:
    text = "/// A guard of a door in a room.\nfn guard() {}\nlet door = room;\nstruct Door;\n"
    found = words.problems("crates/pgdibs/src/a.rs", text)
    assert [line.split("`")[1] for line in found] == ["guard", "Door"]


def test_words_that_only_contain_one_are_none() -> None:
    assert words.problems("docs/a.md", "The officer heard it is bellow and manew.\n") == []


def test_allow_list_is_short() -> None:
    assert len(words.ALLOWED) <= 10
