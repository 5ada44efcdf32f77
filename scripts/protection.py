"""What there is to say of one protection: the change that takes it out, and the tests that must fail then."""

from __future__ import annotations

from dataclasses import dataclass

CORE = "crates/pgdibs-core/src"
SERVER = "crates/pgdibs-postgres/src"
DAEMON = "crates/pgdibs/src"


@dataclass(frozen=True)
class Protection:
    """One protection and how it is taken out."""

    name: str
    file: str
    # Text that stands once in the file, and what takes its place.
    find: str
    put: str
    # A nextest filter; every test that it selects has to fail.
    test: str
    what: str
    # Where the tests are: `lib` for those beside the code, `core` for those beside the core's code alone, else the name of a test
    # program; several with spaces between.
    where: str = "e2e"
    # Further changes (file, find, put), where one protection covers for another and the test fails without both only.
    also: tuple[tuple[str, str, str], ...] = ()

    @property
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        """All that is changed: in which file, what, and into what."""
        return ((self.file, self.find, self.put), *self.also)
