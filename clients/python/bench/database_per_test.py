"""A pytest plugin for whole_runs.py: the shop's tests get another database after each test, in place of emptied tables.

With pgdibs a reset of the lease; without, the way that projects do it by hand: each worker keeps a template of its own, drops its
database and clones it. `-p database_per_test`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest


@dataclass
class OwnClone:
    """What the shop's fixtures need of a lease, on a database that this process clones from its own template."""

    database: str
    url: str
    generation: int = 1

    def make_template(self) -> None:
        """Keep the database as it is now as the template."""
        with administration() as connection:
            connection.execute(f"drop database if exists {self.database}_template with (force)")
            connection.execute(f"create database {self.database}_template template {self.database}")

    def reset(self) -> None:
        """Another clone under the same name."""
        with administration() as connection:
            connection.execute(f"drop database {self.database} with (force)")
            owner = urlsplit(self.url).username
            connection.execute(f"create database {self.database} template {self.database}_template owner {owner}")
        self.generation += 1


def administration() -> psycopg.Connection[Any]:
    """As the server's superuser, on the Postgres of PGHOST and so on."""
    return psycopg.connect("", dbname="postgres", autocommit=True)


@pytest.fixture(scope="session", autouse=True)
def database_per_test(request: pytest.FixtureRequest) -> None:
    """Replaces what the shop does after each test."""
    from tests.clean_database import LeasedDatabase

    def restore(database: Any) -> None:
        database.connection.close()
        database._lease.reset()
        database.connection = database._connect()

    LeasedDatabase.restore = restore  # type: ignore[method-assign]


def pytest_configure(config: pytest.Config) -> None:
    """Without pgdibs: a database of its own for this process, and pools that notice when it is replaced."""
    plugin: Any = config.pluginmanager.get_plugin("create_all_per_worker")
    own = config.stash.get(plugin.OWN, None) if plugin is not None else None
    if own is None:
        return
    from pgdibs.plugin.resets import reconnect_after_resets

    clone = OwnClone(own.database, own.url)
    clone.make_template()
    config.stash[plugin.OWN] = clone
    reconnect_after_resets(config, lambda: clone.generation)
