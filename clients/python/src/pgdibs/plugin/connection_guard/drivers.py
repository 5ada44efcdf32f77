"""Wraps the functions that open connections (SQLAlchemy, Django, drivers, pools) when their modules are imported."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pgdibs.plugin.connection_guard.imports import AfterImport
from pgdibs.plugin.connection_guard.targets import DEFAULT_PORT, VARIABLES, Target

if TYPE_CHECKING:
    from pgdibs.plugin.connection_guard.decisions import ConnectionGuard

NAMES = (*VARIABLES, "database")
"""The keyword arguments that determine the target of a connection."""

# SQLAlchemy's dialects of servers that speak Postgres' protocol.
POSTGRES_DIALECTS = frozenset({"postgresql", "cockroachdb", "redshift", "postgres"})

# The drivers with wrappers of their own.
WRAPPED = frozenset({"psycopg", "psycopg2", "asyncpg", "pg8000"})

# Drivers without libpq read no PG* variables and connect to localhost by default.
WITHOUT_LIBPQ = {"host": "localhost", "hostaddr": "", "port": DEFAULT_PORT, "service": ""}


class Drivers:
    """The wrappers of one guard; `remove` restores the originals."""

    def __init__(self, guard: ConnectionGuard) -> None:
        self._guard = guard
        self._restore: list[Callable[[], None]] = []
        self._after_import = AfterImport(
            {
                "sqlalchemy": self._wrap_sqlalchemy,
                "django.db.backends.postgresql.base": self._wrap_django,
                "psycopg": self._wrap_psycopg,
                "psycopg_pool": self._wrap_psycopg_pool,
                "psycopg2": self._wrap_psycopg2,
                "asyncpg.connect_utils": self._wrap_asyncpg,
                "pg8000.core": self._wrap_pg8000,
            }
        )

    def install(self) -> None:
        """Wrap the modules that are imported, now or later."""
        self._after_import.install()

    def remove(self) -> None:
        """Restore the originals; wrappers that code still references do nothing."""
        self._guard.is_active = False
        self._after_import.remove()
        while self._restore:
            self._restore.pop()()

    def _replace(self, owner: Any, name: str, wrapper: Any) -> None:
        original = owner.__dict__[name]
        setattr(owner, name, wrapper)
        self._restore.append(lambda: setattr(owner, name, original))

    def _refuse_version(self, module: ModuleType, package: str) -> None:
        """Stop the run, because this version has no known function to wrap."""
        version = getattr(module, "__version__", "of this version")
        self._guard.stop(package, [], f"{package} {version} opens connections by a function that the guard does not know")

    def _wrap_sqlalchemy(self, module: ModuleType) -> None:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        guard = self._guard

        def do_connect(dialect: Any, record: Any, arguments: list[Any], parameters: dict[str, Any]) -> None:
            # The wrapper of the driver checks a DSN among the positional arguments.
            if dialect.name not in POSTGRES_DIALECTS or any(arguments) or not guard.is_active or _is_mocked(dialect.dbapi):
                return
            layer = f"SQLAlchemy with {dialect.driver}"
            values = tuple(map(parameters.get, NAMES))
            guard.check_parameters(layer, (layer, values), lambda: _named(values, dialect.driver))

        event.listen(Engine, "do_connect", do_connect)
        self._restore.append(lambda: event.remove(Engine, "do_connect", do_connect))

    def _wrap_django(self, module: ModuleType) -> None:
        guard = self._guard
        wrapper_class: Any = module.DatabaseWrapper
        original = wrapper_class.__dict__["get_new_connection"]

        @functools.wraps(original)
        def get_new_connection(wrapper: Any, parameters: dict[str, Any]) -> Any:
            if guard.is_active and not _is_mocked(wrapper.Database):
                values = tuple(map(parameters.get, NAMES))
                layer = f"Django's alias {wrapper.alias}"
                guard.check_parameters(layer, ("django", values), lambda: _named(values))
            return original(wrapper, parameters)

        self._replace(wrapper_class, "get_new_connection", get_new_connection)

    def _wrap_psycopg(self, module: ModuleType) -> None:
        from psycopg.conninfo import conninfo_to_dict

        guard = self._guard
        # Not `psycopg.connect`, which applications may have imported by name; it calls this method.
        owner = next((each for each in module.Connection.__mro__ if "_connect_gen" in each.__dict__), None)
        owners = {owner} | {each for each in module.AsyncConnection.__mro__ if "_connect_gen" in each.__dict__}
        if owner is None:
            self._refuse_version(module, "psycopg")
            return
        for each in owners:
            original = each.__dict__["_connect_gen"].__func__

            def connect(cls: Any, /, conninfo: str = "", *args: Any, original: Any = original, **kwargs: Any) -> Any:
                if guard.is_active:
                    guard.check_parameters("psycopg", ("psycopg", conninfo), lambda: conninfo_to_dict(conninfo))
                return original(cls, conninfo, *args, **kwargs)

            functools.update_wrapper(connect, original)
            self._replace(each, "_connect_gen", classmethod(connect))

    def _wrap_psycopg_pool(self, module: ModuleType) -> None:
        """Check when the pool opens: it connects in threads, whose exceptions the application does not see."""
        from psycopg.conninfo import conninfo_to_dict

        guard = self._guard

        def check(pool: Any) -> None:
            conninfo, options = pool.conninfo, pool.kwargs
            # If they are functions, psycopg calls them for each connection, and its wrapper checks the result.
            if guard.is_active and isinstance(conninfo, str) and (options is None or isinstance(options, Mapping)):
                known = {name: value for name, value in (options or {}).items() if name in VARIABLES}
                key = ("psycopg", conninfo, tuple(known.items()))
                guard.check_parameters("psycopg_pool", key, lambda: {**conninfo_to_dict(conninfo), **known})

        for pool_class in (module.ConnectionPool, module.AsyncConnectionPool):
            name = "_open" if "_open" in pool_class.__dict__ else "open"
            original = pool_class.__dict__[name]

            def open_pool(pool: Any, *args: Any, original: Any = original, **kwargs: Any) -> Any:
                check(pool)
                return original(pool, *args, **kwargs)

            self._replace(pool_class, name, functools.wraps(original)(open_pool))

    def _wrap_psycopg2(self, module: ModuleType) -> None:
        from psycopg2.extensions import parse_dsn

        guard = self._guard
        # `psycopg2.connect` and the pools call this function, under whatever name an application has imported `connect`.
        original = module.__dict__.get("_connect")
        if original is None:
            self._refuse_version(module, "psycopg2")
            return

        @functools.wraps(original)
        def connect(dsn: str, *args: Any, **kwargs: Any) -> Any:
            if guard.is_active:
                guard.check_parameters("psycopg2", ("psycopg2", dsn), lambda: parse_dsn(dsn))
            return original(dsn, *args, **kwargs)

        self._replace(module, "_connect", connect)

    def _wrap_asyncpg(self, module: ModuleType) -> None:
        guard = self._guard
        # asyncpg has its own rules for missing arguments and service files; this function returns the result.
        original = module.__dict__.get("_parse_connect_arguments")
        if original is None:
            self._refuse_version(module, "asyncpg")
            return

        @functools.wraps(original)
        def parse(*args: Any, **kwargs: Any) -> Any:
            parsed = original(*args, **kwargs)
            if guard.is_active:
                addresses, parameters = parsed[0], parsed[1]
                database = parameters.database or parameters.user
                guard.check_resolved(
                    "asyncpg",
                    ("asyncpg", tuple(addresses), database),
                    lambda: [_of_address(address, database) for address in addresses],
                )
            return parsed

        self._replace(module, "_parse_connect_arguments", parse)

    def _wrap_pg8000(self, module: ModuleType) -> None:
        guard = self._guard
        # The base class of the connections of all interfaces (DB-API, native, legacy).
        owner = module.__dict__.get("CoreConnection")
        if owner is None:
            self._refuse_version(module, "pg8000")
            return
        original = owner.__dict__["__init__"]
        signature = inspect.signature(original)

        @functools.wraps(original)
        def connect(connection: Any, *args: Any, **kwargs: Any) -> None:
            if guard.is_active:
                given = signature.bind(connection, *args, **kwargs)
                given.apply_defaults()
                target = _of_pg8000(given.arguments)
                guard.check_resolved("pg8000", ("pg8000", target), lambda: [target])
            original(connection, *args, **kwargs)

        self._replace(owner, "__init__", connect)


def _is_mocked(driver: Any) -> bool:
    """Whether the `connect` of a wrapped driver is a mock, which reaches no server.

    If the mock calls the driver (`wraps`, `side_effect`), the wrapper of the driver checks the connection.
    """
    mock = sys.modules.get("unittest.mock")
    if mock is None:
        return False
    # For asyncpg SQLAlchemy passes an adapter with a `connect` of its own.
    module = getattr(driver, "asyncpg", driver)
    connect = getattr(module, "connect", None)
    is_mock = isinstance(getattr(connect, "mock", connect), mock.NonCallableMock)  # `autospec` makes a function that has one
    return is_mock and (isinstance(module, mock.NonCallableMock) or getattr(module, "__name__", "") in WRAPPED)


def _named(values: tuple[Any, ...], driver: str = "") -> dict[str, Any]:
    """The arguments as libpq parameters."""
    named = dict(zip(NAMES, values))
    database = named.pop("database")
    if named["dbname"] is None:
        named["dbname"] = database
    if driver.startswith("pg8000"):
        named = {name: WITHOUT_LIBPQ.get(name, "") if value is None else value for name, value in named.items()}
    return named


def _of_pg8000(arguments: Mapping[str, Any]) -> Target:
    """The target of the arguments of pg8000; without a database the server uses the name of the user."""
    database = arguments["database"] or arguments["user"]
    database = database.decode() if isinstance(database, bytes) else str(database)
    if arguments.get("sock") is not None:  # a connected socket, as through a tunnel
        return _of_address(arguments["sock"].getpeername(), database)
    if arguments["unix_sock"]:
        return _of_address(str(arguments["unix_sock"]), database)
    return Target(str(arguments["host"]), str(arguments["port"]), database)


def _of_address(address: Any, database: str) -> Target:
    """The target of an address of asyncpg or pg8000: host and port, or the path of a Unix socket."""
    if isinstance(address, str):
        directory, _, port = address.rpartition("/.s.PGSQL.")
        return Target(directory, port, database)
    return Target(str(address[0]), str(address[1]), database)
