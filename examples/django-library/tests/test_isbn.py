"""ISBN: no database is needed, and none is asked for."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from catalogue.isbn import check_digit, normalised, validate_isbn13


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("9780141439549", "9780141439549"),
        ("978-0-14-143954-9", "9780141439549"),
        (" 978 0141439549 ", "9780141439549"),
        ("0141439548", "9780141439549"),
        ("0-14-143954-8", "9780141439549"),
        ("080442957X", "9780804429573"),
        ("080442957x", "9780804429573"),
    ],
)
def test_people_write_an_isbn_in_many_ways(written: str, stored: str) -> None:
    assert normalised(written) == stored


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "it has to be 13 digits"),
        ("978014143954", "it has to be 13 digits"),
        ("97801414395490", "it has to be 13 digits"),
        ("978014143954X", "it has to be 13 digits"),
        ("9780141439548", "its last digit should be 9"),
        ("0141439549", "its last digit should be 8"),
        ("0804429570", "its last digit should be X"),
        ("٩٧٨٠١٤١٤٣٩٥٤٩", "it has to be 13 digits"),
    ],
)
def test_what_is_no_isbn_is_refused_with_the_reason(written: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        normalised(written)


@pytest.mark.parametrize("first_twelve", ["978014143954", "978080442957", "979109632008", "978000000000"])
def test_exactly_one_last_digit_is_right(first_twelve: str) -> None:
    right = check_digit(first_twelve)
    validate_isbn13(first_twelve + right)
    for digit in set("0123456789") - {right}:
        with pytest.raises(ValidationError):
            validate_isbn13(first_twelve + digit)
