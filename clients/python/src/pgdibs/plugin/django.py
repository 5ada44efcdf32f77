"""The hooks for pytest-django: a lease per alias, a template by `migrate`, its fingerprint, resets between tests."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from pgdibs.plugin import django_databases
from pgdibs.plugin.databases import Databases, databases_of
from pgdibs.plugin.environment import pool_of_alias, undeclared_alias
from pgdibs.plugin.ini import is_absent
from pgdibs.plugin.inputs import named_inputs_key
from pgdibs.plugin.settings import settings_key
from pgdibs.plugin.variables import Unavailable

was_reset_key: pytest.StashKey[bool] = pytest.StashKey()
"""Whether a reset has replaced the databases since the test started."""


is_truncated_key: pytest.StashKey[bool] = pytest.StashKey()
"""Whether a test has truncated the tables since the last reset."""


def pytest_configure(config: pytest.Config) -> None:
    """In a process with databases, replace the `django_db_setup` of pytest-django."""
    _refuse_ineffective_options(config)
    set_variables_unavailable(config)
    if databases_of(config) is not None:
        from pgdibs.plugin import django_setup_check

        django_setup_check.install(config)
        config.pluginmanager.register(django_setup_check, "pgdibs-django-setup-check")


@contextlib.contextmanager
def setting_variables_unavailable(config: pytest.Config) -> Iterator[None]:
    """Within this context, call `set_variables_unavailable` after pytest-django has set up Django and before conftest.py.

    Both happen in implementations of one hook, whose order has no place between them, so this wraps that of pytest-django.
    """
    plugins = [config.pluginmanager.get_plugin(name) for name in ("django", "pytest_django.plugin")]
    implementations: list[Any] = [
        each for each in config.hook.pytest_load_initial_conftests.get_hookimpls() if each.plugin in filter(None, plugins)
    ]
    functions = [each.function for each in implementations]
    for each, function in zip(implementations, functions):

        def set_up(*arguments: object, function: Callable[..., None] = function) -> None:
            function(*arguments)
            set_variables_unavailable(config)

        each.function = set_up
    try:
        yield
    finally:
        for each, function in zip(implementations, functions):
            each.function = function


def set_variables_unavailable(config: pytest.Config) -> None:
    """Until there is a lease, hide the databases of Django's settings from the processes that this one starts.

    Does nothing with `pgdibs_env` in the ini file. Does not change Django's settings, so it may be called again.
    """
    databases = databases_of(config)
    has_leases = databases is not None and bool(databases.leases)
    if has_leases or not is_absent(config, "pgdibs_env") or not django_databases.has_settings():
        return
    settings = config.stash.get(settings_key, None)
    if settings is not None:
        django_databases.set_variables_unavailable(settings.replaced)
        return
    builder = config.pluginmanager.get_plugin("pgdibs-builder")
    if builder is not None:
        django_databases.set_variables_unavailable({}, but=builder.url)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Give workers on this machine, which inherit the environment, the values with which the controller read the settings."""
    settings = config.stash.get(settings_key, None)
    if settings is not None:
        for spec in specs:
            if spec.popen:
                spec.env.update(settings.replaced)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse an undeclared alias of `pgdibs_env` that Django does not have either."""
    set_variables_unavailable(session.config)  # a `pytest_configure` of the project may have made the settings
    settings = session.config.stash.get(settings_key, None)
    if settings is None or not settings.django_aliases or not django_databases.is_ready():
        return
    from django.db import connections

    for variable in settings.variables:
        if variable.alias in settings.django_aliases - set(connections):
            raise undeclared_alias(settings, "pgdibs_env in the ini file", variable)


def _refuse_ineffective_options(config: pytest.Config) -> None:
    """Refuse options of pytest-django about the creation of the schema if Django does not create it."""
    is_built_here = bool(config.getini("pgdibs_fingerprint"))
    maker = "the daemon" if not is_built_here else "pgdibs_build" if config.getini("pgdibs_build") else None
    if maker is not None and _without_migrations(config):
        raise pytest.UsageError(
            f"pgdibs: --no-migrations has no effect here: {maker} creates the schema; leave the option out, or name the files "
            "that define the schema in pgdibs_fingerprint and set no pgdibs_build"
        )
    if maker == "the daemon" and pytest_pgdibs_is_build_forced(config):
        raise pytest.UsageError(
            "pgdibs: --create-db has no effect here: the daemon builds the template, and builds it again when its inputs change; "
            "`pgdibs template drop` forces a build"
        )


def pytest_pgdibs_aliases(config: pytest.Config, pool: str) -> list[str]:
    """One lease for each database of Django's settings that is no mirror, from the pool `<pgdibs_pool>_<alias>`.

    Each alias needs a pool of its own: a pool has one schema at a time, and routers give each alias another schema.
    """
    if not django_databases.is_ready():
        return []
    named = config.stash[settings_key].aliases
    return [f"{alias}={pool_of_alias(pool, alias)}" for alias in django_databases.plan_of(config).leased if alias not in named]


def pytest_pgdibs_fingerprint(config: pytest.Config) -> Optional[str]:
    """A hash of the migrations of all installed apps, including those of other packages; with --no-migrations, of their models.

    A process that sets variables leases before Django reads its settings, when the installed apps are unknown. Then the globs of
    `pgdibs_fingerprint` alone count, in every process of the project.
    """
    kind = "models" if _without_migrations(config) else "migrations"
    if config.stash[settings_key].variables or not django_databases.is_ready():
        return None if kind == "migrations" else f"django {kind}"
    from django.apps import apps

    digest = hashlib.sha256()
    named = config.stash.setdefault(named_inputs_key, {})
    for app in apps.get_app_configs():
        digest.update(f"\0{app.label}".encode())
        of_app = hashlib.sha256()
        for file in _migration_files(app.label) if kind == "migrations" else _model_files(app.label):
            content = f"\0{file.name}\0".encode() + file.read_bytes()
            digest.update(content)
            of_app.update(content)
        named[f"{kind} of {app.label}"] = of_app.hexdigest()
    return f"django {kind} {digest.hexdigest()}"


def _migration_files(label: str) -> Iterator[Path]:
    from django.db.migrations.loader import MigrationLoader

    name = MigrationLoader.migrations_module(label)[0]
    try:
        found = importlib.util.find_spec(name) if name else None
    except ModuleNotFoundError:
        found = None
    for directory in (found.submodule_search_locations or []) if found else []:
        yield from sorted(Path(directory).glob("*.py"))


def _model_files(label: str) -> Iterator[Path]:
    from django.apps import apps

    modules = {model.__module__ for model in apps.get_app_config(label).get_models(include_auto_created=True)}
    files = {getattr(sys.modules.get(module), "__file__", None) for module in modules}
    yield from sorted(Path(file) for file in files if file)


def _without_migrations(config: pytest.Config) -> bool:
    return bool(getattr(config.known_args_namespace, "nomigrations", False))


def pytest_pgdibs_is_build_forced(config: pytest.Config) -> bool:
    """--create-db: build again even if the template exists."""
    return bool(getattr(config.known_args_namespace, "create_db", False))


@pytest.hookimpl(trylast=True)
def pytest_pgdibs_build_template(url: str, alias: str, config: pytest.Config) -> Optional[bool]:
    """Run `migrate` and `createcachetable`, as Django does for a test database. A hook in conftest.py precedes this one."""
    from pgdibs.plugin.template import BuildTarget

    if not django_databases.is_ready():
        raise pytest.UsageError(
            "pgdibs: nothing says how to build the template: set pgdibs_build to a command (as in `pgdibs_build = alembic "
            "upgrade head`), write the hook pytest_pgdibs_build_template(url), or set DJANGO_SETTINGS_MODULE for `migrate`"
        )
    from django.apps import apps
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    plan = django_databases.plan_of(config)
    if alias not in plan.leased:
        return True  # `default` is on another engine; its lease stays empty
    # A migration of this alias must not reach the database of another alias.
    django_databases.set_connections(plan, {**dict.fromkeys(plan.leased, Unavailable()), alias: BuildTarget(url)})
    if _without_migrations(config) or connections[alias].settings_dict["TEST"].get("MIGRATE") is False:
        settings.MIGRATION_MODULES = {app.label: None for app in apps.get_app_configs()}
    with config.stash[_blocking_manager_key()].unblock():
        call_command("migrate", verbosity=1, interactive=False, database=alias, run_syncdb=True)
        call_command("createcachetable", database=alias)
        django_databases.close_connections(plan.leased)
    return True


def pytest_pgdibs_leased(config: pytest.Config, databases: Databases) -> None:
    """Connect Django to the leases, and without `pgdibs_env` set the variables of its settings."""
    if django_databases.is_ready():
        plan = django_databases.plan_of(config)
        django_databases.set_connections(plan, databases.leases)
        if is_absent(config, "pgdibs_env"):
            django_databases.move_variables(plan, databases.leases, config.stash[settings_key].replaced)


def pytest_pgdibs_before_reset(config: pytest.Config) -> None:
    """Close the connections of Django."""
    if django_databases.is_ready():
        plan = django_databases.plan_of(config)
        django_databases.commit_and_close(alias for members in plan.leased.values() for alias in members)
        config.stash[was_reset_key] = True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Reset before a test with rollback if an earlier test has truncated the rows of the migrations.

    pytest-django runs truncating tests last, but xdist gives the tests of a dead worker to others, and some plugins shuffle.
    """
    databases = databases_of(item.config)
    if databases is not None and django_databases.is_ready():
        kind = _kind_of(item)
        if kind == "rolled back" and item.config.stash.get(is_truncated_key, False):
            databases.needs_reset = True
            item.config.stash[is_truncated_key] = False
        elif kind == "truncates":
            item.config.stash[is_truncated_key] = True
    yield


def _kind_of(item: pytest.Item) -> str:
    from django.test import TestCase, TransactionTestCase
    from pytest_django.fixtures import validate_django_db

    cls = getattr(item, "cls", None)
    if cls is not None and issubclass(cls, TransactionTestCase):
        return "rolled back" if issubclass(cls, TestCase) else "truncates"
    fixtures = set(getattr(item, "fixturenames", ()))
    marker = item.get_closest_marker("django_db")
    is_transactional = marker is not None and any(validate_django_db(marker)[:2])
    if is_transactional or fixtures & {"transactional_db", "live_server", "django_db_reset_sequences"}:
        return "truncates"
    return "rolled back" if marker is not None or "db" in fixtures else "no database"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: Optional[pytest.Item]) -> Iterator[None]:
    """After a reset between two tests of a `TestCase` class, set up the class again, because the reset has removed its rows."""
    yield
    cls: Any = getattr(item, "cls", object)
    has_lost_rows = item.config.stash.get(was_reset_key, False) and hasattr(cls, "cls_atomics")
    has_next_test = bool(nextitem is not None and getattr(nextitem, "cls", None) is cls)
    if has_lost_rows and has_next_test:
        with item.config.stash[_blocking_manager_key()].unblock():
            cls.tearDownClass()
            cls.setUpClass()
    item.config.stash[was_reset_key] = False


def _blocking_manager_key() -> pytest.StashKey[Any]:
    from pytest_django.plugin import blocking_manager_key

    return blocking_manager_key
