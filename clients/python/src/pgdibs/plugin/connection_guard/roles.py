"""What a process is for the connection guard."""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """What this process is, as an error names it."""

    TESTS = "a process that runs tests"
    CONTROLLER = "the xdist controller, which runs no tests and leases nothing"
    COLLECTS = "a process that only collects or lists, and leases nothing"
    WITHOUT_LEASES = "a process of a run without leases"
    ENDED = "a process whose run has ended"
    BUILDER = "the process that builds the template; it may use the template's own database only"
