"""Replaces the fixture `django_db_setup`: the databases are leased, so it creates and migrates none on Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pgdibs.plugin import django_databases
from pgdibs.plugin.databases import databases_of

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest,
    django_test_environment: None,
    django_db_blocker: Any,
    django_db_use_migrations: bool,
    django_db_keepdb: bool,
    django_db_createdb: bool,
    django_db_modify_db_settings: None,
) -> Iterator[None]:
    """Connect every alias on Postgres to its lease, and set up aliases on other engines as pytest-django does."""
    from django.db import connections
    from django.test.utils import setup_databases, teardown_databases

    from pgdibs.plugin.failures import obtain_or_stop

    databases = databases_of(request.config)
    assert databases is not None
    plan = django_databases.plan_of(request.config)
    leases = obtain_or_stop(databases, request.session)
    used, serialized = _aliases_of(request.session.items)
    others: Any = plan.others & used
    with django_db_blocker.unblock():
        try:
            django_databases.set_connections(plan, leases)
            django_databases.check(plan, leases)
        except pytest.UsageError as error:
            request.session.shouldstop = str(error)
            pytest.fail(str(error), pytrace=False)
        for alias in others:
            # Leased databases exist; Django would search for them among the databases to create.
            test = connections[alias].settings_dict["TEST"]
            test["DEPENDENCIES"] = [name for name in test.get("DEPENDENCIES", []) if name in others]
        created = (
            setup_databases(
                verbosity=request.config.option.verbose,
                interactive=False,
                keepdb=django_db_keepdb and not django_db_createdb,
                aliases=others,
                serialized_aliases=others & serialized,
            )
            if others
            else []
        )
        for alias in sorted(serialized & set(plan.leased)):
            connection: Any = connections[alias]
            connection._test_serialized_contents = connection.creation.serialize_db_to_string()
    yield
    with django_db_blocker.unblock():
        django_databases.close_connections(alias for members in plan.leased.values() for alias in members)
        if not django_db_keepdb:
            teardown_databases(created, verbosity=request.config.option.verbose)


def _aliases_of(items: Iterable[pytest.Item]) -> tuple[set[str], set[str]]:
    """The aliases that the collected tests use, and those that some test serializes (`serialized_rollback`)."""
    from django.db import connections
    from pytest_django import fixtures

    find = getattr(fixtures, "_get_databases_for_setup", None)
    if find is None:  # before 4.10 pytest-django sets up and serializes all
        return set(connections), set(connections)
    used, serialized = find(items)
    return set(used), set(serialized)
