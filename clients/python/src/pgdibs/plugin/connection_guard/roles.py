"""The roles of processes for the connection guard."""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """The role of this process; the value is its name in errors."""

    TESTS = "a process that runs tests"
    CONTROLLER = "the xdist controller, which runs no tests and leases nothing"
    COLLECTS = "a process that only collects or lists, and leases nothing"
    WITHOUT_LEASES = "a process of a run without leases"
    ENDED = "a process whose run has ended"
    BUILDER = "the process that builds the template; it may use the template's own database only"
