"""Points Django's connections at leased databases: the settings are changed in place, open connections and pools closed."""

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
    """Which database each of Django's aliases gets."""

    leased: dict[str, tuple[str, ...]]
    """By the alias of the lease: the aliases of Django that share its database, mirrors among them."""
    others: frozenset[str]
    """Aliases on other engines than Postgres; pytest-django sets them up."""
    places: dict[Place, str]
    """Where the settings place each leased database: the alias of the lease, by host, port and name."""


plan_key: pytest.StashKey[Plan] = pytest.StashKey()


def is_ready() -> bool:
    """Whether Django has its settings and its apps; false while conftest.py and settings are not imported yet."""
    import sys

    if "django" not in sys.modules:
        return False
    from django.apps import apps
    from django.conf import settings

    return bool(settings.configured and apps.ready)


def has_settings() -> bool:
    """Whether Django's settings are there already, as after `settings.configure()`."""
    import sys

    if "django.conf" not in sys.modules:
        return False
    from django.conf import settings

    return bool(settings.configured)


def plan_of(config: pytest.Config) -> Plan:
    """The plan, made once: it goes by what the settings said before anything was pointed elsewhere."""
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


def point_at(plan: Plan, targets: Mapping[str, Target]) -> None:
    """Every leased alias connects to its target from now on, in this process and in all threads that start later."""
    for lease_alias, members in plan.leased.items():
        target = targets.get(lease_alias)
        if target is None:
            raise pytest.UsageError(
                f"pgdibs: Django's alias `{lease_alias}` has no database: when a process sets variables, and so leases, before "
                f"Django's settings are read, name it in the ini file, with the pool it comes from: "
                f"pgdibs_aliases = {lease_alias}=myapp_test_{lease_alias.lower()}; or write `pgdibs_env =`, and none is set"
            )
        for alias in members:
            _point(alias, target)


def _point(alias: str, target: Target) -> None:
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
    # One and the same dictionary as a rule. A project that has replaced the entry in DATABASES since this thread's connection
    # was made has two, and threads that start later (those of live_server) connect by that of DATABASES.
    entries = (settings.DATABASES[alias], connections.settings[alias], connection.settings_dict)
    if all(entry.get(key) == value for entry in entries for key, value in changed.items()):
        return
    _close(connection)
    for entry in entries:
        entry.update(changed)
        # Django, and projects, read the test database's name from here.
        entry.setdefault("TEST", {})["NAME"] = target.database


def set_variables_unavailable(replaced: dict[str, str], but: str = "") -> None:
    """Set variables with the URL of a database of Django's settings to an unavailable target; their values go into `replaced`.

    Those of the database at the URL `but` stay: the template that this process builds.

    It reads the settings and imports no backend, because a process that only collects may have no driver.
    """
    from django.conf import settings

    places = {place_of_settings(entry) for entry in settings.DATABASES.values()}
    set_unavailable(places - {place_of_url(but)}, replaced)


def move_variables(plan: Plan, targets: Mapping[str, Target], replaced: Mapping[str, str]) -> None:
    """Set variables with the URL of a leased alias, as the settings had it, to its target."""
    follow(plan.places, targets, replaced)


def close_connections(aliases: Iterable[str]) -> None:
    """No session of this thread, and none of a pool, is left on these aliases."""
    from django.db import connections

    for alias in aliases:
        _close(connections[alias])


def commit_and_close(aliases: Iterable[str]) -> None:
    """Like `close_connections`, but what a test has written in a transaction that it holds open stays in the database.

    That database is about to be replaced, and is looked at only if somebody keeps it, to see what the test did.
    """
    from django.db import connections

    for alias in aliases:
        wrapper: Any = connections[alias]
        if wrapper.connection is not None and wrapper.in_atomic_block:
            # What had failed already, or was cut off, has nothing to show.
            with contextlib.suppress(wrapper.Database.Error):
                wrapper.connection.commit()
        _close(wrapper)


def _close(connection: Any) -> None:
    connection.close()
    if hasattr(connection, "close_pool"):  # Django 5.1
        connection.close_pool()


def check(plan: Plan, targets: Mapping[str, Target]) -> None:
    """Each alias is connected to its own database, by the server's word; a project may have settings that get in between."""
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
                    f'it; look into OPTIONS of DATABASES["{alias}"]'
                ) from error
            except OperationalError as error:
                raise pytest.UsageError(
                    f"pgdibs: Django's alias `{alias}` does not get into {targets[lease_alias].database}, which was leased "
                    f'for it ({str(error).strip()}); look into OPTIONS of DATABASES["{alias}"]'
                ) from error
            if found != targets[lease_alias].database:
                raise pytest.UsageError(
                    f"pgdibs: Django's alias `{alias}` connects to {found} and not to {targets[lease_alias].database}, which was "
                    f'leased for it; look into OPTIONS of DATABASES["{alias}"]'
                )
