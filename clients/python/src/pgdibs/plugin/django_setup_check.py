"""Stops the run when a project's own `django_db_setup` replaces the one that leases the databases.

Such a fixture overrides that of pgdibs, because it is nearer to the tests, and the tests would use the database that it names. A
fixture that requests `django_db_setup` itself (pytest-django's documented way to load data) runs after it and replaces nothing.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from pgdibs.plugin import django_databases, django_fixtures

NAME = "django_db_setup"


def install(config: pytest.Config) -> None:
    """Replace the fixture of pytest-django in its module, so that every other fixture of that name overrides it.

    Registering it as a plugin would be wrong: pytest orders the fixtures of plugins by registration, so it would silently
    override that of a plugin which loads data.
    """
    plugin: Any = config.pluginmanager.getplugin("django") or config.pluginmanager.getplugin("pytest_django.plugin")
    replaced = plugin.django_db_setup

    def restore() -> None:
        plugin.django_db_setup = replaced

    plugin.django_db_setup = django_fixtures.django_db_setup
    config.add_cleanup(restore)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Check the collected tests, after pytest has deselected some. Raises `pytest.UsageError` with all replacements."""
    if not django_databases.is_ready():
        return
    tests: list[pytest.Item] = []
    places: dict[str, None] = {}
    for item in session.items:
        override = _replacement(item)
        if override is not None and _needs_database(item, override):
            tests.append(item)
            places[_place(override, session.config)] = None
    if tests:
        raise pytest.UsageError(_sentence(list(places), tests))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> None:
    """Check what collection cannot see: a test or a fixture that calls `request.getfixturevalue("db")`."""
    item = getattr(request, "_pyfuncitem", None)
    is_dynamic = fixturedef.argname == NAME and NAME not in getattr(item, "fixturenames", ())
    if item is None or not (is_dynamic or fixturedef.argname == "_django_db_helper"):
        return
    override = _replacement(item)
    if override is not None:
        sentence = _sentence([_place(override, item.config)], [item])
        item.session.shouldstop = sentence
        pytest.fail(sentence, pytrace=False)


def _sentence(places: Sequence[str], tests: Sequence[pytest.Item]) -> str:
    more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
    return (
        f"pgdibs: {' and '.join(places)} {'replaces' if len(places) == 1 else 'replace'} {NAME}; delete it, or request ours "
        f"(def {NAME}({NAME}): ...): {tests[0].nodeid}{more} would use a database that pgdibs did not lease"
    )


def _replacement(item: pytest.Item) -> Optional[Any]:
    """The definition of the fixture that applies to this test and does not request that of pgdibs; None if there is none."""
    for definition in reversed(_definitions(item, NAME)):
        if _function(definition) is _function(django_fixtures.django_db_setup):
            return None
        if not _requests_the_overridden(definition, item, set()):
            return definition
    return None


def _requests_the_overridden(definition: Any, item: pytest.Item, seen: set[str]) -> bool:
    """Whether a definition requests `django_db_setup`: by an argument, by `getfixturevalue`, or through another fixture."""
    if NAME in definition.argnames:
        return True
    code = getattr(_function(definition), "__code__", None)
    if code is not None and "getfixturevalue" in code.co_names and NAME in code.co_consts:
        return True
    for name in definition.argnames:
        if name not in seen:
            seen.add(name)
            if any(_requests_the_overridden(other, item, seen) for other in _definitions(item, name)[-1:]):
                return True
    return False


def _needs_database(item: pytest.Item, override: Any) -> bool:
    """Whether pytest-django would set up the databases for this test."""
    from django.test import SimpleTestCase

    cls = getattr(item, "cls", None)
    if cls is not None and issubclass(cls, SimpleTestCase) and cls.databases:
        return True
    names = getattr(item, "fixturenames", ())
    if item.get_closest_marker("django_db") is not None or "live_server" in names:
        return True
    if NAME not in names:
        return False
    # With autouse it also applies to tests without a database; then it needs `django_db_blocker` to reach one.
    return _is_requested(item) or "django_db_blocker" in override.argnames


def _is_requested(item: pytest.Item) -> bool:
    """Whether the test, or a fixture that it uses, names `django_db_setup`."""
    info: Any = getattr(item, "_fixtureinfo", None)
    if info is None or NAME in info.argnames or any(NAME in mark.args for mark in item.iter_markers("usefixtures")):
        return True
    others: Iterator[Any] = (found[-1] for name, found in info.name2fixturedefs.items() if name != NAME and found)
    return any(NAME in other.argnames for other in others)


def _definitions(item: pytest.Item, name: str) -> Sequence[Any]:
    """The definitions of a fixture that apply to this test; the last one is nearest to the test and wins."""
    manager: Any = getattr(item.session, "_fixturemanager", None)
    if manager is None:
        return ()
    kind: Any = type(manager)
    return manager.getfixturedefs(name, item if _takes_node(kind) else item.nodeid) or ()


@functools.cache
def _takes_node(manager: Any) -> bool:
    """Whether `getfixturedefs` takes a node, as from pytest 8.1 on, instead of its id."""
    return "node" in inspect.signature(manager.getfixturedefs).parameters


def _function(fixture: Any) -> Any:
    """The function of a definition, or of what `pytest.fixture` returned."""
    function = getattr(fixture, "func", fixture)
    return inspect.unwrap(getattr(function, "__func__", function))


def _place(definition: Any, config: pytest.Config) -> str:
    """File and line of a definition; for an installed plugin also the option that disables it."""
    function = _function(definition)
    code = getattr(function, "__code__", None)
    if code is None:
        return f"{getattr(function, '__module__', 'a plugin')}.{NAME}"
    path = Path(code.co_filename)
    if config.rootpath in path.parents and "site-packages" not in path.parts:
        return f"{os.path.relpath(path, config.rootpath)}:{code.co_firstlineno}"
    plugins = (name for name, plugin in config.pluginmanager.list_name_plugin() if _is_defined_in(function, plugin))
    return f"{path}:{code.co_firstlineno}" + "".join(f" (-p no:{name} leaves it out)" for name in list(plugins)[:1])


def _is_defined_in(function: Any, plugin: Any) -> bool:
    return bool(getattr(plugin, "__name__", None) == function.__module__)
