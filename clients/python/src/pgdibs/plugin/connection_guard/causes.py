"""Says why a connection was about to open that no lease covers: the target, the lease in its place, the likely cause, what to do.

Runs once for each target that is stopped, so it may read files; what it reads it never executes. No password is shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

from pgdibs.plugin import databases_of
from pgdibs.plugin.connection_guard import places
from pgdibs.plugin.connection_guard.roles import Role
from pgdibs.plugin.connection_guard.sources import Sources
from pgdibs.plugin.connection_guard.targets import DEFAULT_PORT, Target, of_url
from pgdibs.plugin.variables import LIBPQ, Nowhere
from pgdibs.pytest_plugin import Absent

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
"""How the names of variables for the parts of a URL end."""


def explain(guard: ConnectionGuard, layer: str, strangers: list[Target], reason: str) -> str:
    """The sentence, on one line: a worker's goes to the controller, and pytest prints the last line of a run."""
    done = "stopped a connection" if guard.mode == "error" else "a connection"
    place = places.of_caller(guard.config.rootpath)
    opened = f" opened at {place}" if place else ""
    if reason:
        return (
            f"pgdibs: {done} by {layer}{opened}: whether it leads to a leased database cannot be worked out "
            f"({reason}); {_should(guard)}. Give the host, the port and the database"
        )
    target = strangers[0]
    if guard.role is Role.WITHOUT_LEASES:
        return (
            f"pgdibs: {done} by {layer}{opened} to database {target.database} on {_server(target)}: --pgdibs=off means that "
            "there is no database in this run; leave the option out"
        )
    cause = Causes(guard, target).find()
    sentence = (
        f"pgdibs: {done} by {layer}{opened} to database {target.database} on {_server(target)}, which pgdibs did "
        f"not lease; {_should(guard)}. {cause}"
    )
    if guard.is_nowhere(target):
        return sentence
    return f"{sentence}. If the connection is meant, add `pgdibs_allow = {target}` to the ini file"


def _server(target: Target) -> str:
    return str(target).rpartition("/")[0]


def _should(guard: ConnectionGuard) -> str:
    """The lease that it should have been."""
    databases = databases_of(guard.config)
    if guard.role is Role.BUILDER:
        return f"this is {guard.role.value}"
    if databases is None or guard.role is Role.ENDED:
        return f"this is {guard.role.value}, so it has no database"
    if not databases.leases:
        return f"it should have been a lease of pool {databases.settings.pool} (this process has none so far)"
    leased = [f"{lease.database} on {lease.host}:{lease.port}" for lease in databases.leases.values()]
    if len(leased) > 1:
        leased = [f"{one} ({alias})" for one, alias in zip(leased, databases.leases)]
    return f"it should have been {' or '.join(leased)}"


class Causes:
    """Looks for the cause of a connection to one target, the certain ones first."""

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
                "It is made after the run, by a function of `atexit` or by a thread that outlives the tests; connect in the "
                "teardown of a fixture, while there is a lease"
            )
        for look in (
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
            found = look()
            if found:
                return found
        return (
            "No variable and no file that pgdibs reads holds this database; the code that connects has it from somewhere else, "
            "and has to take it from a variable of pgdibs_env or from the fixture pgdibs_url"
        )

    def _replaced_setup(self) -> Optional[str]:
        """The project's own `django_db_setup` is what connects, or keeps ours from leasing."""
        place, code = places.fixture(self._guard.config, "django_db_setup")
        if place is None or not (places.is_running(code) or not self._leases):
            return None
        return f"{place} replaces django_db_setup; delete it, or let it request the django_db_setup that it replaces"

    def _django_options(self) -> Optional[str]:
        """OPTIONS of Django's settings decide, and not what pgdibs has set."""
        for alias, entry in _django_databases():
            options = entry.get("OPTIONS") or {}
            if options.get("dbname") == self._target.database or "service" in options:
                return f'OPTIONS of DATABASES["{alias}"] leads there, whatever pgdibs sets NAME to; change it for tests'
        return None

    def _maintenance(self) -> Optional[str]:
        """The server's own database: something creates or drops databases by itself."""
        if self._target.database not in ("postgres", "template1"):
            return None
        if not any(_is_like(Target(lease.host, str(lease.port), ""), self._server_of_target) for lease in self._leases.values()):
            return None
        return (
            f"{self._target.database} is the maintenance database of the leases' server, so something creates or drops databases "
            "here (as sqlalchemy_utils.create_database does); leave that out, the leased database is there and clean"
        )

    @property
    def _server_of_target(self) -> Target:
        return Target(self._target.host, self._target.port, "", self._target.address)

    def _changed_variable(self) -> Optional[str]:
        """A variable no longer has the value that pgdibs gave it."""
        for variable in self._guard.variables:
            now, ours = os.environ.get(variable.name), self._ours(variable)
            if now is None or ours is None or now == ours or not self._holds(variable.name, now, variable.part):
                continue
            place = self._sources.assignment(variable.name)
            if place is not None:
                return f"{place} sets {variable.name} after pgdibs has set it; delete that line"
            line = self._sources.setting(variable.name, self._target)
            from_file = f"to what {line} says, " if line else ""
            return (
                f"{variable.name} was changed {from_file}after pgdibs had set it, by a plugin or a library that loads settings; "
                "keep it from overriding variables that are set"
            )
        return None

    def _early_engine(self) -> Optional[str]:
        """An engine for the target is in a module that was imported before pgdibs set the variables."""
        engine = places.engine(self._guard.config.rootpath, self._target, self._guard.modules_before)
        return self._older_than_lease(f"{engine} was built") if engine else None

    def _value_before(self) -> Optional[str]:
        """A variable had this value before; nothing proves that something was built from it."""
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
        """Another variable, or a line of a `.env` file, holds the database, and pgdibs does not set it."""
        ours = {variable.name for variable in self._guard.variables}
        for name, value, place in self._named_values():
            if name in ours or not self._holds(name, value):
                continue
            where = f" in {place}" if place else ""
            similar = _similar(name, ours)
            hint = f"; it has {similar}, which may be a misspelling (if so, leave it out)" if similar else ""
            return (
                f"{name}{where} holds this database and is not in pgdibs_env{hint}; add it: pgdibs_env = "
                f"{' '.join(self._entries_with(name, value))}"
            )
        return None

    def _named_values(self) -> Iterator[tuple[str, str, str]]:
        yield from ((name, value, "") for name, value in os.environ.items() if not name.startswith("PGDIBS_"))
        yield from self._sources.dotenv()

    def _file(self) -> Optional[str]:
        """A line of a file holds the URL."""
        ours = {variable.name for variable in self._guard.variables}
        for name, value, place in self._sources.dotenv():
            if name in ours and self._holds(name, value):
                return (
                    f"{place} holds this database, and the application takes {name} from that file rather than from the "
                    "environment, where pgdibs has set it"
                )
        line = self._sources.url(self._target)
        if line is None:
            return None
        return f"{line} holds this database; read it from a variable of pgdibs_env there"

    def _django_settings(self) -> Optional[str]:
        """Django connects before anything has led its settings to a lease."""
        for alias, entry in _django_databases() if not self._leases else ():
            if entry.get("NAME") == self._target.database and str(entry.get("PORT") or DEFAULT_PORT) == self._target.port:
                return (
                    f'DATABASES["{alias}"] of the settings holds this database, and pgdibs leads it to a lease '
                    "when a test asks for one; do not connect before that, at import or in AppConfig.ready"
                )
        return None

    def _no_lease(self) -> Optional[str]:
        if self._leases or self._guard.role is not Role.TESTS:
            return None
        return "Nothing has asked for a lease: set pgdibs_env to the variables that the application reads"

    def _ours(self, variable: Variable) -> Optional[str]:
        """What pgdibs has set it to; the driver prefix and the query string may be another's."""
        if self._guard.role is Role.BUILDER:
            return self._guard.before.get(variable.name)
        target = self._leases.get(variable.alias) or (Nowhere() if self._guard.role is not Role.TESTS else None)
        return variable.value(target) if target is not None else None

    def _holds(self, name: str, value: str, part: str = "") -> bool:
        """Whether a variable's value leads to the target: as a URL, or as the name of the database."""
        found = of_url(value)
        if found is not None:
            return _is_like(found, self._target)
        if part in ("host", "port"):
            return False
        is_name = part == "database" or any(word in name.upper() for word in ("DATABASE", "DB", "PG", "POSTGRES"))
        return is_name and value == self._target.database

    def _entries_with(self, name: str, value: str) -> list[str]:
        """All that `pgdibs_env` has to say: its entries, this variable, and those that hold the other parts of the same place."""
        configured = self._guard.config.getini("pgdibs_env")
        ours = [variable.name for variable in self._guard.variables]
        # Without the setting its default is in effect, and a setting replaces that.
        present = list(ours) if isinstance(configured, Absent) and not configured else list(map(str, configured))
        if of_url(value) is not None:
            return [*present, name]
        names = {each for each, _value, _place in self._named_values()} | {name}
        return [*present, *(entry for each, entry in parts_beside(name).items() if each in names and each not in ours)]


def parts_beside(name: str) -> dict[str, str]:
    """The entry of `pgdibs_env` for each variable that may hold a part beside `name`, which holds the name of a database."""
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
    """`DATABASES`, when Django has its settings."""
    if "django.conf" not in sys.modules:
        return []
    from django.conf import settings

    return list(settings.DATABASES.items()) if settings.configured else []


def _is_like(one: Target, other: Target) -> bool:
    """Whether two targets mean the same server and database, without asking the network."""
    is_same_host = (one.is_local and other.is_local) or one.host.lower() == other.host.lower()
    return one.database == other.database and (one.port or DEFAULT_PORT) == other.port and is_same_host


def _similar(name: str, ours: set[str]) -> Optional[str]:
    import difflib

    found = difflib.get_close_matches(name, sorted(ours), 1, 0.75)
    return found[0] if found else None
