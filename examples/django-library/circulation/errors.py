"""What the desk says no to."""

from __future__ import annotations


class Refused(Exception):
    """The rules of lending forbid it; `str()` is what to tell the member."""
