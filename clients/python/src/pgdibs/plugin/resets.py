"""Connections that a reset has ended: SQLAlchemy's pools replace theirs, and failures of others are explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Optional

from pgdibs.plugin.connection_guard.imports import AfterImport

if TYPE_CHECKING:
    import pytest

GENERATION = "pgdibs_generation"
"""The key in the `info` of SQLAlchemy's connection record: the generation that the connection belongs to."""

DRIVERS = frozenset({"psycopg", "psycopg2", "asyncpg", "pg8000"})
"""Parts of the names of the modules whose connections are Postgres's; SQLAlchemy's adapters have the names of their drivers."""

ADMIN_SHUTDOWN = "57P01"
"""The SQLSTATE of a session that another one has ended."""

EXPLANATION = (
    "pgdibs has reset the database of this process, and a reset ends every session on it. This connection seems to be older than "
    "the reset. SQLAlchemy's pools and Django reconnect by themselves. Open another connection in a fixture that requests "
    'pgdibs_fresh_url, and close it there: docs/python/pytest.md, "Connections and resets"'
)


def reconnect_after_resets(config: pytest.Config, generation: Callable[[], int]) -> None:
    """Let SQLAlchemy's pools discard each connection that is older than the last reset, when it is next checked out.

    `generation` returns another number after each reset. Does not import SQLAlchemy.
    """
    removals: list[Callable[[], None]] = []

    def listen(_sqlalchemy: ModuleType) -> None:
        from sqlalchemy import event
        from sqlalchemy.exc import DisconnectionError
        from sqlalchemy.pool import Pool

        def connect(connection: Any, record: Any) -> None:
            if _is_postgres(connection):
                record.info[GENERATION] = generation()

        def checkout(connection: Any, record: Any, _proxy: Any) -> None:
            # Not `Pool.dispose` at the reset: outside of the event loop it cannot close the connections of an async engine.
            # SQLAlchemy answers this exception with a new connection.
            if record.info.get(GENERATION, 0) != generation() and _is_postgres(connection):
                raise DisconnectionError("pgdibs has reset the database since this connection was opened")

        for name, listener in (("connect", connect), ("checkout", checkout)):
            event.listen(Pool, name, listener)
            removals.append(partial(event.remove, Pool, name, listener))

    after_import = AfterImport({"sqlalchemy": listen})
    after_import.install()

    def remove() -> None:
        after_import.remove()
        while removals:
            removals.pop()()

    config.add_cleanup(remove)


def explanation(error: Optional[BaseException]) -> str:
    """The sentence about an error that a reset may have caused; empty for any other error."""
    return EXPLANATION if any(map(_is_ended_session, _chain(error))) else ""


def _is_ended_session(error: BaseException) -> bool:
    states = {getattr(error, name, None) for name in ("sqlstate", "pgcode")}
    if ADMIN_SHUTDOWN in states:
        return True
    # The drivers have no SQLSTATE for the use of a connection that they know to be closed.
    return _is_of_driver(type(error)) and states <= {None, "08003"} and "closed" in str(error)


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__


def _is_postgres(connection: Any) -> bool:
    return any(map(_is_of_driver, type(connection).__mro__))


def _is_of_driver(cls: type) -> bool:
    return not DRIVERS.isdisjoint(cls.__module__.split("."))
