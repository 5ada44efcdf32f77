"""The list of protections fits the code: each change can still be made, and each test that it names is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from protection import Protection
from protections import PROTECTIONS

runner = importlib.import_module("without-protections")

ROOT = Path(__file__).resolve().parent.parent.parent


def named(protection: Protection) -> str:
    return protection.name


@pytest.fixture(scope="module")
def rust() -> str:
    files = sorted((ROOT / "crates").rglob("*.rs"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("protection", PROTECTIONS, ids=named)
def test_what_is_taken_out_stands_once_in_its_file(protection: Protection) -> None:
    for change in protection.changes:
        text = (ROOT / change[0]).read_text(encoding="utf-8")
        assert runner.applied(protection.name, change, text) != text


@pytest.mark.parametrize("protection", PROTECTIONS, ids=named)
def test_the_tests_are_there(protection: Protection, rust: str) -> None:
    names = runner.named_tests(protection.test)
    assert len(names) == protection.test.count("test("), protection.test
    # As a function, or in one of the lists from which macros make functions.
    assert all(re.search(rf"\b{name}", rust) for name in names), protection.test


def test_names_and_sentences_tell_them_apart() -> None:
    assert len({protection.name for protection in PROTECTIONS}) == len(PROTECTIONS)
    assert len({protection.what for protection in PROTECTIONS}) == len(PROTECTIONS)


def test_text_that_is_not_there_once_is_refused() -> None:
    with pytest.raises(SystemExit, match="2 times"):
        runner.applied("a", ("f", "x", "y"), "x x")


def test_the_file_is_whole_again_whatever_happens(tmp_path: Path) -> None:
    files = (tmp_path / "f", tmp_path / "g")
    files[0].write_text("before x after, before v after", encoding="utf-8")
    files[1].write_text("before x after", encoding="utf-8")
    also = (("f", "v", "w"), ("g", "x", "y"))
    with pytest.raises(KeyboardInterrupt), runner.without(Protection("a", "f", "x", "y", "test(t)", "w", also=also), tmp_path):
        assert [file.read_text(encoding="utf-8") for file in files] == ["before y after, before w after", "before y after"]
        raise KeyboardInterrupt
    assert [file.read_text(encoding="utf-8") for file in files] == ["before x after, before v after", "before x after"]


FAILED = """        FAIL [   0.1s] a::b c
thread 'c' (1) panicked at crates/a.rs:1:2:
[
    "what was seen",
]
     Summary [  0.2s] 2 tests run: 0 passed, 2 failed, 9 skipped
"""


@pytest.mark.parametrize(
    ("code", "output", "verdict"),
    [
        (100, FAILED, runner.SEEN),
        (100, FAILED.replace("0 passed, 2 failed", "1 passed, 1 failed"), runner.IN_PART),
        (0, "     Summary [  0.2s] 2 tests run: 2 passed, 9 skipped\n", runner.NOT_SEEN),
        (101, "warning: unused\nerror[E0425]: cannot find value\n", runner.NO_BUILD),
        (100, "error: the server would not start\n", runner.NO_BUILD),
        (4, "error: no tests to run\n", runner.NO_TEST),
    ],
)
def test_a_build_that_fails_is_no_test_that_fails(code: int, output: str, verdict: str) -> None:
    protection = Protection("a", "f", "x", "y", "test(t)", "w")
    assert runner.judged(protection, code, output, 1.0).verdict == verdict


def test_the_first_words_are_those_of_the_first_panic() -> None:
    assert runner.first_words(FAILED) == '"what was seen",'
