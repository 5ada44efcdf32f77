"""ISBN-13: its check digit, and how people write it."""

from __future__ import annotations

from django.core.exceptions import ValidationError


def check_digit(first_twelve: str) -> str:
    """The thirteenth digit for the first twelve."""
    total = sum(int(digit) * (3 if index % 2 else 1) for index, digit in enumerate(first_twelve))
    return str(-total % 10)


def normalised(text: str) -> str:
    """Thirteen digits out of what somebody typed, with hyphens, spaces or as ISBN-10; raises `ValidationError`."""
    compact = text.replace("-", "").replace(" ", "").upper()
    if len(compact) == 10 and compact[:9].isdecimal():
        if compact[9] != _check_of_ten(compact[:9]):
            raise ValidationError(f"{text} is no ISBN: its last digit should be {_check_of_ten(compact[:9])}")
        compact = "978" + compact[:9] + check_digit("978" + compact[:9])
    validate_isbn13(compact)
    return compact


def validate_isbn13(text: str) -> None:
    """Raises `ValidationError` unless these are thirteen digits with the right last one."""
    if len(text) != 13 or not (text.isascii() and text.isdecimal()):
        raise ValidationError(f"{text} is no ISBN: it has to be 13 digits")
    if text[12] != check_digit(text[:12]):
        raise ValidationError(f"{text} is no ISBN: its last digit should be {check_digit(text[:12])}")


def _check_of_ten(first_nine: str) -> str:
    rest = sum(int(digit) * (10 - index) for index, digit in enumerate(first_nine)) % 11
    return "0X987654321"[rest]
