"""The variables of `pgdibs_env`: parsing the entries, and setting the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import pytest

from pgdibs.urls import driver_and_options, is_postgres, retarget

EXPORTED = "PGDIBS_EXPORTED"
"""The variable that lists the variables that pgdibs has set, separated by commas; `pgdibs run` and the plugin write it."""

PLUGIN_STATE = "PGDIBS_PLUGIN_STATE"
"""The variable that carries the worker payload (JSON) to the processes that the plugin starts."""

LIBPQ = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "database"}
PARTS = ("url", "host", "port", "user", "password", "database")


class Target(Protocol):
    """Where to connect: a lease, a database to build, or a server that does not exist."""

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
class Unavailable:
    """The target in a process that runs no tests: no server listens there, and the user's name says why."""

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


DRIVER = re.compile(r"(?:postgres\w*|pgsql|postgis|timescale\w*)(?:\+\w+)?|(?P<driver>asyncpg|psycopg\w*|pg8000)", re.IGNORECASE)


@dataclass(frozen=True)
class Variable:
    """One entry of `pgdibs_env`."""

    name: str
    alias: str = "default"
    part: str = "url"
    pattern: str = ""
    """A Postgres URL without a host; the value takes its scheme and query string."""

    @classmethod
    def parse(cls, entry: str) -> Variable:
        """`NAME`, `NAME=ALIAS`, `NAME=ALIAS.PART`; the first two also with `=URL`. Raises `pytest.UsageError` with the rule."""
        found = ENTRY.fullmatch(entry)
        if found is None or (found["part"] or "url") not in PARTS:
            name, _mark, rest = entry.partition("=")
            driver = meant_driver(rest.rstrip(":/"))
            if driver:
                raise pytest.UsageError(
                    f"pgdibs: pgdibs_env in the ini file: `{entry}` is malformed; to name a driver write `{name}={driver}://`"
                )
            raise pytest.UsageError(
                f"pgdibs: pgdibs_env in the ini file: `{entry}` is none of VARIABLE, VARIABLE=ALIAS, VARIABLE=ALIAS.PART "
                f"(a part is one of {', '.join(PARTS)}) and VARIABLE=postgresql+driver://?options; "
                "as in `pgdibs_env = DATABASE_URL=postgresql+asyncpg:// DB_HOST=default.host`"
            )
        pattern = found["pattern"] or ""
        if pattern and not is_postgres(pattern):
            raise pytest.UsageError(
                f"pgdibs: pgdibs_env in the ini file: `{entry}`: the URL has to name Postgres and may name a driver, as in "
                f"`{found['name']}=postgresql+asyncpg://`"
            )
        part = found["part"] or LIBPQ.get(found["name"], "url")
        return cls(found["name"], found["alias"] or "default", part, pattern)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Variable:
        """Build the variable that `to_payload` returned in another process."""
        return cls(**payload)

    def to_payload(self) -> dict[str, str]:
        """The variable as JSON for another process of the run, driver included."""
        return asdict(self)

    def with_driver_of(self, urls: Iterable[str]) -> Variable:
        """This variable with the scheme and options of its own pattern, else of the first Postgres URL in `urls`."""
        if self.part != "url":
            return self
        found = next((url for url in (self.pattern, *urls) if is_postgres(url)), None)
        return self if found is None else replace(self, pattern=driver_and_options(found))

    def value(self, target: Target) -> str:
        """The value of the variable for this target."""
        return retarget(self.pattern, target.url) if self.part == "url" else str(getattr(target, self.part))


def meant_driver(text: str) -> str:
    """The scheme that a driver's name such as `asyncpg` stands for; empty if `text` is no driver."""
    found = DRIVER.fullmatch(text)
    if found is None:
        return ""
    return text if found["driver"] is None else f"postgresql+{text}"


def set_environment(variables: tuple[Variable, ...], alias: str, target: Target) -> None:
    """Set this alias's variables to `target`, and list them in `PGDIBS_EXPORTED`."""
    values = {variable.name: variable.value(target) for variable in variables if variable.alias == alias}
    os.environ.update(values)
    if values:
        os.environ[EXPORTED] = marked(os.environ, values)


def exported(environment: Mapping[str, str]) -> frozenset[str]:
    """The names of the variables in `environment` that pgdibs has set."""
    return frozenset(name.strip() for name in environment.get(EXPORTED, "").split(",") if name.strip())


def marked(environment: Mapping[str, str], names: Iterable[str]) -> str:
    """The value of `PGDIBS_EXPORTED` once pgdibs has set `names` too."""
    return ",".join(sorted(exported(environment) | set(names)))
