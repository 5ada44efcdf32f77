"""docs/pictures/numbers.svg shows the numbers of README.md."""

from __future__ import annotations

import re

import numbers_picture
import pytest


def test_picture_is_current() -> None:
    readme = (numbers_picture.REPOSITORY / "README.md").read_text(encoding="utf-8")
    written = (numbers_picture.REPOSITORY / numbers_picture.PICTURE).read_text(encoding="utf-8")
    assert written == numbers_picture.picture(readme), "the picture is stale: python3 scripts/numbers_picture.py"


def test_changed_number_makes_picture_stale() -> None:
    readme = (numbers_picture.REPOSITORY / "README.md").read_text(encoding="utf-8")
    other = re.sub(r"p50 ≈ [\d.]+ ms", "p50 ≈ 123 ms", readme)
    assert other != readme and numbers_picture.picture(other) != numbers_picture.picture(readme)
    with pytest.raises(SystemExit, match="takes connections"):
        numbers_picture.picture(re.sub(r"p50 ≈ [\d.]+ ms", "fast", readme))
