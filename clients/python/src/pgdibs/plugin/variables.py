"""The variables of `pgdibs_env`: what they say and how they are set."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Optional, Protocol

import pytest

from pgdibs.urls import retarget

LIBPQ = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "database"}
PARTS = ("url", "host", "port", "user", "password", "database")


class Target(Protocol):
    """A place to connect to: a lease, or one that does not exist."""

    @property
    def url(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def database(self) -> str: ...


@dataclass(frozen=True)
class Nowhere:
    """What a process sees that runs no tests: nobody listens there, and the name says why."""

    host: str = "127.0.0.1"
    port: int = 1
    user: str = "only-test-processes-have-a-database"
    password: str = "none"
    database: str = "none"
    url: str = "postgresql://only-test-processes-have-a-database:none@127.0.0.1:1/none"


ENTRY = re.compile(
    r"(?P<name>[A-Za-z_]\w*)"
    r"(?:=(?P<alias>[A-Za-z_][\w-]*)(?:\.(?P<part>\w+))?)?"
    r"(?:=(?P<pattern>[A-Za-z][A-Za-z0-9+.-]*://\S*))?"
)


@dataclass(frozen=True)
class Variable:
    """One entry of `pgdibs_env`."""

    name: str
    alias: str = "default"
    part: str = "url"
    pattern: str = ""
    """A URL whose driver prefix and query string count when the variable is not set."""

    @classmethod
    def parse(cls, entry: str) -> Variable:
        """`NAME`, `NAME=ALIAS`, `NAME=ALIAS.PART`; the first two also with `=URL`. Raises `pytest.UsageError` with the rule."""
        found = ENTRY.fullmatch(entry)
        if found is None or (found["part"] or "url") not in PARTS:
            raise pytest.UsageError(
                f"pgdibs: pgdibs_env in the ini file: `{entry}` is none of VARIABLE, VARIABLE=ALIAS, VARIABLE=ALIAS.PART "
                f"(a part is one of {', '.join(PARTS)}) and VARIABLE=postgresql+driver://?options; "
                "as in `pgdibs_env = DATABASE_URL=postgresql+asyncpg:// DB_HOST=default.host`"
            )
        part = found["part"] or LIBPQ.get(found["name"], "url")
        return cls(found["name"], found["alias"] or "default", part, found["pattern"] or "")

    def value(self, target: Target, existing: Optional[str]) -> str:
        """What to set it to; a URL keeps the driver prefix and query string that it has."""
        return retarget(existing or self.pattern, target.url) if self.part == "url" else str(getattr(target, self.part))


def point(variables: tuple[Variable, ...], alias: str, target: Target) -> None:
    """Set this alias's variables to `target`."""
    for variable in variables:
        if variable.alias == alias:
            os.environ[variable.name] = variable.value(target, os.environ.get(variable.name))
