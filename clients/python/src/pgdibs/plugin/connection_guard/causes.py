"""Explains a stopped connection: the target, the lease that it should have been, the likely cause, what to do.

Runs once for each stopped target, so it may read files; it executes none of them. It shows no password.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

from pgdibs.plugin.connection_guard import places
from pgdibs.plugin.connection_guard.roles import Role
from pgdibs.plugin.connection_guard.sources import Sources
from pgdibs.plugin.connection_guard.targets import DEFAULT_PORT, Target, of_url
from pgdibs.plugin.databases import databases_of
from pgdibs.plugin.ini import is_absent
from pgdibs.plugin.variables import LIBPQ, Unavailable

if TYPE_CHECKING:
    from pgdibs.lease import Lease
    from pgdibs.plugin.connection_guard.decisions import ConnectionGuard
    from pgdibs.plugin.variables import Variable

PART_SUFFIXES = {
    "host": ("HOST", "HOSTNAME", "SERVER"),
    "port": ("PORT",),
    "user": ("USER", "USERNAME"),
    "password": ("PASSWORD", "PASS", "PASSWD"),
    "database": ("NAME", "DATABASE", "DB", "DBNAME"),
}
"""The suffixes of the names of variables for the parts of a URL."""


def explain(guard: ConnectionGuard, layer: str, foreign: list[Target], reason: str) -> str:
    """The sentence about a stopped connection, on one line, because pytest prints only the last line of an error."""
    action = "stopped a connection" if guard.mode == "error" else "a connection"
    place = places.of_caller(guard.config.rootpath)
    opened = f" opened at {place}" if place else ""
    if reason:
        return (
            f"pgdibs: {action} by {layer}{opened}: whether it leads to a leased database cannot be determined "
            f"({reason}); {_should(guard)}. Give the host, the port and the database"
        )
    target = foreign[0]
    if guard.role is Role.WITHOUT_LEASES:
        return (
            f"pgdibs: {action} by {layer}{opened} to database {target.database} on {_server(target)}: --pgdibs=off means that "
            "there is no database in this run; leave the option out"
        )
    cause = Causes(guard, target).find()
    sentence = (
        f"pgdibs: {action} by {layer}{opened} to database {target.database} on {_server(target)}, which pgdibs did "
        f"not lease; {_should(guard)}. {cause}"
    )
    if guard.is_unavailable(target):
        return sentence
    return f"{sentence}. If the connection is meant, add `pgdibs_allow = {target}` to the ini file"


def _server(target: Target) -> str:
    return str(target).rpartition("/")[0]


def _should(guard: ConnectionGuard) -> str:
    """The clause about the lease that the connection should have used."""
    databases = databases_of(guard.config)
    if guard.role is Role.BUILDER:
        return f"this is {guard.role.value}"
    if databases is None or guard.role is Role.ENDED:
        return f"this is {guard.role.value}, so it has no database"
    if not databases.leases:
        return f"it should have been a lease of pool {databases.settings.pool} (this process has no lease yet)"
    leased = [f"{lease.database} on {lease.host}:{lease.port}" for lease in databases.leases.values()]
    if len(leased) > 1:
        leased = [f"{one} ({alias})" for one, alias in zip(leased, databases.leases)]
    return f"it should have been {' or '.join(leased)}"


class Causes:
    """Finds the cause of a connection to one target; certain causes come first."""

    def __init__(self, guard: ConnectionGuard, target: Target) -> None:
        self._guard = guard
        self._target = target
        self._sources = Sources(guard.config)
        databases = databases_of(guard.config)
        self._leases: dict[str, Lease] = databases.leases if databases is not None else {}

    def find(self) -> str:
        """The likely cause and what to do, as a sentence without its period."""
        if self._guard.role is Role.ENDED:
            return (
                "An `atexit` function, or a thread that outlives the tests, connects after the run; connect in the teardown of a "
                "fixture, while there is a lease"
            )
        for find_cause in (
            self._replaced_setup,
            self._django_options,
            self._maintenance,
            self._changed_variable,
            self._early_engine,
            self._unnamed_variable,
            self._file,
            self._value_before,
            self._django_settings,
            self._no_lease,
        ):
            found = find_cause()
            if found:
                return found
        return (
            "No variable and no file that pgdibs reads names this database; the code that connects must take it from a variable "
            "of pgdibs_env or from the fixture pgdibs_url"
        )

    def _replaced_setup(self) -> Optional[str]:
        """The project's own `django_db_setup` connects, or prevents the leases."""
        place, code = places.fixture(self._guard.config, "django_db_setup")
        if place is None or not (places.is_running(code) or not self._leases):
            return None
        return f"{place} replaces django_db_setup; delete it, or let it request the django_db_setup that it replaces"

    def _django_options(self) -> Optional[str]:
        """OPTIONS of Django's settings override what pgdibs has set."""
        for alias, entry in _django_databases():
            options = entry.get("OPTIONS") or {}
            if options.get("dbname") == self._target.database or "service" in options:
                return f'OPTIONS of DATABASES["{alias}"] overrides the NAME that pgdibs sets; change it for tests'
        return None

    def _maintenance(self) -> Optional[str]:
        """The maintenance database of the leases' server: code creates or drops databases."""
        if self._target.database not in ("postgres", "template1"):
            return None
        if not any(_is_like(Target(lease.host, str(lease.port), ""), self._server_of_target) for lease in self._leases.values()):
            return None
        return (
            f"{self._target.database} is the maintenance database of the leases' server, so this code creates or drops databases "
            "(as sqlalchemy_utils.create_database does); leave that out, the leased database exists and is clean"
        )

    @property
    def _server_of_target(self) -> Target:
        return Target(self._target.host, self._target.port, "", self._target.address)

    def _changed_variable(self) -> Optional[str]:
        """A variable has another value than pgdibs has set."""
        for variable in self._guard.variables:
            now, value_set = os.environ.get(variable.name), self._value_set(variable)
            if now is None or value_set is None or now == value_set or not self._holds(variable.name, now, variable.part):
                continue
            place = self._sources.assignment(variable.name)
            if place is not None:
                return f"{place} sets {variable.name} after pgdibs has set it; delete that line"
            line = self._sources.setting(variable.name, self._target)
            from_file = f"to the value in {line}, " if line else ""
            return (
                f"{variable.name} was changed {from_file}after pgdibs had set it, by a plugin or a library that loads settings; "
                "keep it from overriding variables that are set"
            )
        return None

    def _early_engine(self) -> Optional[str]:
        """A module that was imported before pgdibs set the variables has an engine for the target."""
        engine = places.engine(self._guard.config.rootpath, self._target, self._guard.modules_before)
        return self._older_than_lease(f"{engine} was built") if engine else None

    def _value_before(self) -> Optional[str]:
        """A variable had this value before; an engine may have been built from it."""
        return self._older_than_lease("An engine or a settings object was built")

    def _older_than_lease(self, what: str) -> Optional[str]:
        for variable in self._guard.variables:
            before = self._guard.before.get(variable.name)
            if before is None or not self._holds(variable.name, before, variable.part):
                continue
            return (
                f"{what} from {variable.name} before pgdibs set it: something imports the application before the conftest files "
                "(`-p`, PYTEST_PLUGINS, an entry point); import it later, or build the engine when it is first used"
            )
        return None

    def _unnamed_variable(self) -> Optional[str]:
        """A variable that pgdibs does not set, or a line of a `.env` file, names the database."""
        set_names = {variable.name for variable in self._guard.variables}
        for name, value, place in self._named_values():
            if name in set_names or not self._holds(name, value):
                continue
            where = f" in {place}" if place else ""
            similar = _similar(name, set_names)
            hint = f"; it has {similar}, which may be a misspelling (if so, leave it out)" if similar else ""
            return (
                f"{name}{where} names this database and is not in pgdibs_env{hint}; add it: pgdibs_env = "
                f"{' '.join(self._entries_with(name, value))}"
            )
        return None

    def _named_values(self) -> Iterator[tuple[str, str, str]]:
        yield from ((name, value, "") for name, value in os.environ.items() if not name.startswith("PGDIBS_"))
        yield from self._sources.dotenv()

    def _file(self) -> Optional[str]:
        """A line of a file has the URL."""
        set_names = {variable.name for variable in self._guard.variables}
        for name, value, place in self._sources.dotenv():
            if name in set_names and self._holds(name, value):
                return (
                    f"{place} names this database, and the application takes {name} from that file rather than from the "
                    "environment, where pgdibs has set it"
                )
        line = self._sources.url(self._target)
        if line is None:
            return None
        return f"{line} names this database; read it from a variable of pgdibs_env there"

    def _django_settings(self) -> Optional[str]:
        """Django connects before pgdibs has connected its settings to a lease."""
        for alias, entry in _django_databases() if not self._leases else ():
            if entry.get("NAME") == self._target.database and str(entry.get("PORT") or DEFAULT_PORT) == self._target.port:
                return (
                    f'DATABASES["{alias}"] of the settings names this database, and pgdibs connects it to a lease '
                    "when a test asks for one; do not connect earlier, at import or in AppConfig.ready"
                )
        return None

    def _no_lease(self) -> Optional[str]:
        if self._leases or self._guard.role is not Role.TESTS:
            return None
        return "No test or fixture has asked for a lease: set pgdibs_env to the variables that the application reads"

    def _value_set(self, variable: Variable) -> Optional[str]:
        """The value that pgdibs has set."""
        if self._guard.role is Role.BUILDER:
            return self._guard.before.get(variable.name)
        target = self._leases.get(variable.alias) or (Unavailable() if self._guard.role is not Role.TESTS else None)
        return variable.value(target) if target is not None else None

    def _holds(self, name: str, value: str, part: str = "") -> bool:
        """Whether the value of a variable names the target: as a URL, or as the name of the database."""
        found = of_url(value)
        if found is not None:
            return _is_like(found, self._target)
        if part in ("host", "port"):
            return False
        is_name = part == "database" or any(word in name.upper() for word in ("DATABASE", "DB", "PG", "POSTGRES"))
        return is_name and value == self._target.database

    def _entries_with(self, name: str, value: str) -> list[str]:
        """The complete `pgdibs_env`: its entries, this variable, and those with the other parts of the same target."""
        configured = self._guard.config.getini("pgdibs_env")
        set_names = [variable.name for variable in self._guard.variables]
        # A setting replaces the default, so the line must include the default.
        present = (
            list(set_names) if not configured and is_absent(self._guard.config, "pgdibs_env") else list(map(str, configured))
        )
        if of_url(value) is not None:
            return [*present, name]
        names = {each for each, _value, _place in self._named_values()} | {name}
        return [*present, *(entry for each, entry in parts_beside(name).items() if each in names and each not in set_names)]


def parts_beside(name: str) -> dict[str, str]:
    """The entry of `pgdibs_env` for each variable that may have a part beside `name`, which has the name of a database."""
    if name in LIBPQ:
        return {each: each for each in LIBPQ}
    suffix = max((each for each in PART_SUFFIXES["database"] if name.upper().endswith(each)), key=len, default="")
    prefix = name[: len(name) - len(suffix)]
    if not suffix or not prefix:
        return {name: f"{name}=default.database"}
    entries = {}
    for part, suffixes in PART_SUFFIXES.items():
        for each in [suffix] if part == "database" else suffixes:
            other = f"{prefix}{each.lower() if name.islower() else each}"
            entries[other] = f"{other}=default.{part}"
    return entries


def _django_databases() -> list[tuple[str, dict[str, Any]]]:
    """The entries of `DATABASES`, if Django has its settings."""
    if "django.conf" not in sys.modules:
        return []
    from django.conf import settings

    return list(settings.DATABASES.items()) if settings.configured else []


def _is_like(one: Target, other: Target) -> bool:
    """Whether two targets are the same server and database, without resolving names."""
    is_same_host = (one.is_local and other.is_local) or one.host.lower() == other.host.lower()
    return one.database == other.database and (one.port or DEFAULT_PORT) == other.port and is_same_host


def _similar(name: str, set_names: set[str]) -> Optional[str]:
    import difflib

    found = difflib.get_close_matches(name, sorted(set_names), 1, 0.75)
    return found[0] if found else None
