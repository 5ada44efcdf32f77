"""Connects Django to leased databases: changes the settings in place, and closes open connections and pools."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pgdibs.errors import ConnectionStopped
from pgdibs.plugin.django_environment import Place, follow, place_of_settings, place_of_url, set_unavailable

if TYPE_CHECKING:
    from pgdibs.plugin.variables import Target


@dataclass(frozen=True)
class Plan:
    """The database of each of Django's aliases."""

    leased: dict[str, tuple[str, ...]]
    """By alias of a lease: the aliases of Django that use its database, mirrors included."""
    others: frozenset[str]
    """The aliases on other engines, which pytest-django sets up."""
    places: dict[Place, str]
    """The alias of the lease, by host, port and name of the database in the settings."""


plan_key: pytest.StashKey[Plan] = pytest.StashKey()


def is_ready() -> bool:
    """Whether Django has loaded its settings and apps."""
    import sys

    if "django" not in sys.modules:
        return False
    from django.apps import apps
    from django.conf import settings

    return bool(settings.configured and apps.ready)


def has_settings() -> bool:
    """Whether Django has its settings, as after `settings.configure()`."""
    import sys

    if "django.conf" not in sys.modules:
        return False
    from django.conf import settings

    return bool(settings.configured)


def plan_of(config: pytest.Config) -> Plan:
    """The plan, made once, from the settings before `set_connections` changes them."""
    plan = config.stash.get(plan_key, None)
    if plan is None:
        plan = config.stash[plan_key] = _plan()
    return plan


def _plan() -> Plan:
    from django.db import connections
    from django.test.utils import get_unique_databases_and_mirrors

    unique, mirrors = get_unique_databases_and_mirrors()
    leased: dict[str, list[str]] = {}
    others: set[str] = set()
    for _name, members in unique.values():
        aliases = sorted(members, key=lambda alias: (alias != "default", alias))
        if connections[aliases[0]].vendor == "postgresql":
            leased[aliases[0]] = aliases
        else:
            others.update(aliases)
    for mirror, primary in sorted(mirrors.items()):
        for members in leased.values():
            if primary in members:
                members.append(mirror)
                break
        else:
            others.add(mirror)
    places = {place_of_settings(connections[each].settings_dict): alias for alias in leased for each in leased[alias]}
    return Plan({alias: tuple(members) for alias, members in leased.items()}, frozenset(others), places)


def set_connections(plan: Plan, targets: Mapping[str, Target]) -> None:
    """Connect every leased alias to its target, in this process and in all threads that start later."""
    for lease_alias, members in plan.leased.items():
        target = targets.get(lease_alias)
        if target is None:
            raise pytest.UsageError(
                f"pgdibs: Django's alias `{lease_alias}` has no database: when a process sets variables, and so leases, before "
                f"Django's settings are read, name it in the ini file, with the pool it comes from: "
                f"pgdibs_aliases = {lease_alias}=myapp_test_{lease_alias.lower()}; or write `pgdibs_env =` to set no variable"
            )
        for alias in members:
            _set_connection(alias, target)


def _set_connection(alias: str, target: Target) -> None:
    from django.conf import settings
    from django.db import connections

    connection = connections[alias]
    changed = {
        "NAME": target.database,
        "HOST": target.host,
        "PORT": str(target.port),
        "USER": target.user,
        "PASSWORD": target.password,
    }
    # Normally one dictionary. If the project has replaced the entry in DATABASES since this thread connected, there are two, and
    # threads that start later (those of live_server) read that of DATABASES.
    entries = (settings.DATABASES[alias], connections.settings[alias], connection.settings_dict)
    if all(entry.get(key) == value for entry in entries for key, value in changed.items()):
        return
    _close(connection)
    for entry in entries:
        entry.update(changed)
        # Django and projects read the name of the test database from here.
        entry.setdefault("TEST", {})["NAME"] = target.database


def set_variables_unavailable(replaced: dict[str, str], but: str = "") -> None:
    """Make variables with the URL of a database of Django's settings unavailable, and store their values in `replaced`.

    Skips the database at the URL `but`, the template that this process builds. Imports no database backend, because a process
    that only collects may have no driver.
    """
    from django.conf import settings

    places = {place_of_settings(entry) for entry in settings.DATABASES.values()}
    set_unavailable(places - {place_of_url(but)}, replaced)


def move_variables(plan: Plan, targets: Mapping[str, Target], replaced: Mapping[str, str]) -> None:
    """Set variables with the URL that an alias had in the settings to the target of the alias."""
    follow(plan.places, targets, replaced)


def close_connections(aliases: Iterable[str]) -> None:
    """Close the connections of this thread, and the pools, of these aliases."""
    from django.db import connections

    for alias in aliases:
        _close(connections[alias])


def commit_and_close(aliases: Iterable[str]) -> None:
    """Like `close_connections`, but commit the open transaction of a test first.

    The database is about to leave the lease. If it is kept, it must show what the test wrote.
    """
    from django.db import connections

    for alias in aliases:
        wrapper: Any = connections[alias]
        if wrapper.connection is not None and wrapper.in_atomic_block:
            # The transaction may have failed already.
            with contextlib.suppress(wrapper.Database.Error):
                wrapper.connection.commit()
        _close(wrapper)


def _close(connection: Any) -> None:
    connection.close()
    if hasattr(connection, "close_pool"):  # Django 5.1
        connection.close_pool()


def check(plan: Plan, targets: Mapping[str, Target]) -> None:
    """Ask the server for the database of each alias, because settings such as OPTIONS may override the name."""
    from django.db import OperationalError, connections

    for lease_alias, members in plan.leased.items():
        for alias in members:
            try:
                with connections[alias].cursor() as cursor:
                    cursor.execute("select current_database()")
                    found = cursor.fetchone()[0]
            except ConnectionStopped as error:
                raise pytest.UsageError(
                    f"pgdibs: Django's alias `{alias}` does not connect to {targets[lease_alias].database}, which was leased for "
                    f'it; check OPTIONS of DATABASES["{alias}"]'
                ) from error
            except OperationalError as error:
                raise pytest.UsageError(
                    f"pgdibs: Django's alias `{alias}` cannot connect to {targets[lease_alias].database}, which was leased "
                    f'for it ({str(error).strip()}); check OPTIONS of DATABASES["{alias}"]'
                ) from error
            if found != targets[lease_alias].database:
                raise pytest.UsageError(
                    f"pgdibs: Django's alias `{alias}` connects to {found} and not to {targets[lease_alias].database}, which was "
                    f'leased for it; check OPTIONS of DATABASES["{alias}"]'
                )
