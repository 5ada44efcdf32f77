"""What pytest-django projects get without asking: their aliases, a template by `migrate`, its fingerprint, clean resets."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import pytest

from pgdibs.plugin import databases_of, django_databases, settings_key
from pgdibs.plugin.environment import pool_of_alias, undeclared_alias
from pgdibs.plugin.variables import Nowhere
from pgdibs.pytest_plugin import Absent

if TYPE_CHECKING:
    from pgdibs.plugin.databases import Databases


was_reset_key: pytest.StashKey[bool] = pytest.StashKey()
"""Whether the databases have been replaced since the test began."""


is_truncated_key: pytest.StashKey[bool] = pytest.StashKey()
"""Whether a test has emptied the tables since the databases came."""


def pytest_configure(config: pytest.Config) -> None:
    """A process with databases gets our `django_db_setup` in place of pytest-django's; one without them keeps the old one."""
    _refuse_what_has_no_effect(config)
    set_variables_unavailable(config)
    if databases_of(config) is not None:
        from pgdibs.plugin import django_setup_check

        django_setup_check.install(config)
        config.pluginmanager.register(django_setup_check, "pgdibs-django-setup-check")


@contextlib.contextmanager
def setting_variables_unavailable(config: pytest.Config) -> Iterator[None]:
    """Within this context, `set_variables_unavailable` is called between pytest-django's set-up of Django and conftest.py.

    Both are implementations of one hook, and its order leaves no place between them.
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
    """Until the lease comes, no process that this one starts finds a database of Django's settings in a variable.

    `pgdibs_env` in the ini file decides alone. Django's settings stay as they are, so this may be called again.
    """
    databases = databases_of(config)
    has_leases = databases is not None and bool(databases.leases)
    if has_leases or not isinstance(config.getini("pgdibs_env"), Absent) or not django_databases.has_settings():
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
    """A worker on this machine inherits the environment, and has to read the settings as the controller did."""
    settings = config.stash.get(settings_key, None)
    if settings is not None:
        for spec in specs:
            if spec.popen:
                spec.env.update(settings.replaced)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse an alias of `pgdibs_env` that nothing declares and that Django does not know either."""
    set_variables_unavailable(session.config)  # when the settings come from a `pytest_configure` of the project
    settings = session.config.stash.get(settings_key, None)
    if settings is None or not settings.django_aliases or not django_databases.is_ready():
        return
    from django.db import connections

    for variable in settings.variables:
        if variable.alias in settings.django_aliases - set(connections):
            raise undeclared_alias(settings, "pgdibs_env in the ini file", variable)


def _refuse_what_has_no_effect(config: pytest.Config) -> None:
    """Options of pytest-django about how the schema is made, when it is not made here."""
    is_built_here = bool(config.getini("pgdibs_fingerprint"))
    maker = "the daemon" if not is_built_here else "pgdibs_build" if config.getini("pgdibs_build") else None
    if maker is not None and _without_migrations(config):
        raise pytest.UsageError(
            f"pgdibs: --no-migrations has no effect here: {maker} makes the schema; leave the option out, or name the files that "
            "shape the schema in pgdibs_fingerprint and set no pgdibs_build"
        )
    if maker == "the daemon" and pytest_pgdibs_is_build_forced(config):
        raise pytest.UsageError(
            "pgdibs: --create-db has no effect here: the daemon makes the template, and builds it again when its inputs change; "
            "`pgdibs template drop` does it now"
        )


def pytest_pgdibs_aliases(config: pytest.Config, pool: str) -> list[str]:
    """A lease for each database of Django's settings that is no mirror, from the pool `<pgdibs_pool>_<alias>`.

    A pool of its own, because a pool's template has one schema, and routers give each alias another one.
    """
    if not django_databases.is_ready():
        return []
    named = config.stash[settings_key].aliases
    return [f"{alias}={pool_of_alias(pool, alias)}" for alias in django_databases.plan_of(config).leased if alias not in named]


def pytest_pgdibs_fingerprint(config: pytest.Config) -> Optional[str]:
    """What the schema depends on beside the project's own files: the migrations of all installed apps, whoever wrote them.

    With --no-migrations it is the files that define models. When there are variables to set, a process leases before Django's
    settings are read, and installed apps are not known yet; the globs are all there is then, in every process of the project.
    """
    kind = "models" if _without_migrations(config) else "migrations"
    if config.stash[settings_key].variables or not django_databases.is_ready():
        return None if kind == "migrations" else f"django {kind}"
    from django.apps import apps

    digest = hashlib.sha256()
    for app in apps.get_app_configs():
        digest.update(f"\0{app.label}".encode())
        for file in _migration_files(app.label) if kind == "migrations" else _model_files(app.label):
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
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
    """--create-db: do not trust the template that is there."""
    return bool(getattr(config.known_args_namespace, "create_db", False))


@pytest.hookimpl(trylast=True)
def pytest_pgdibs_build_template(url: str, alias: str, config: pytest.Config) -> Optional[bool]:
    """`migrate` and `createcachetable`, as Django does for a test database; a hook in conftest.py goes before this one."""
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
        return True  # `default` on another engine: the plugin leases it all the same, and nothing is in it
    # A migration of this alias that writes to another one fails; the databases of the settings are not for tests.
    django_databases.point_at(plan, {**dict.fromkeys(plan.leased, Nowhere()), alias: BuildTarget(url)})
    if _without_migrations(config) or connections[alias].settings_dict["TEST"].get("MIGRATE") is False:
        settings.MIGRATION_MODULES = {app.label: None for app in apps.get_app_configs()}
    with config.stash[_blocking_manager_key()].unblock():
        call_command("migrate", verbosity=1, interactive=False, database=alias, run_syncdb=True)
        call_command("createcachetable", database=alias)
        django_databases.close_connections(plan.leased)
    return True


def pytest_pgdibs_leased(config: pytest.Config, databases: Databases) -> None:
    """Django's settings follow at once, whoever asked for the lease; so do the variables, unless `pgdibs_env` is given."""
    if django_databases.is_ready():
        plan = django_databases.plan_of(config)
        django_databases.point_at(plan, databases.leases)
        if isinstance(config.getini("pgdibs_env"), Absent):
            django_databases.move_variables(plan, databases.leases, config.stash[settings_key].replaced)


def pytest_pgdibs_before_reset(config: pytest.Config) -> None:
    """No connection of Django outlives the database behind it."""
    if django_databases.is_ready():
        plan = django_databases.plan_of(config)
        django_databases.commit_and_close(alias for members in plan.leased.values() for alias in members)
        config.stash[was_reset_key] = True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """A test that is rolled back sees what the migrations made, also after one that has truncated it.

    pytest-django sorts such tests to the end, but xdist hands a dead worker's tests to others, and some plugins shuffle.
    """
    databases = databases_of(item.config)
    if databases is not None and django_databases.is_ready():
        kind = _kind_of(item)
        if kind == "rolled back" and item.config.stash.get(is_truncated_key, False):
            databases.is_reset_wanted = True
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
    """After a reset in the middle of a `TestCase`, what its class had set up is gone; it is set up again for its next test."""
    yield
    cls: Any = getattr(item, "cls", object)
    is_undone = item.config.stash.get(was_reset_key, False) and hasattr(cls, "cls_atomics")
    goes_on = bool(nextitem is not None and getattr(nextitem, "cls", None) is cls)
    if is_undone and goes_on:
        with item.config.stash[_blocking_manager_key()].unblock():
            cls.tearDownClass()
            cls.setUpClass()
    item.config.stash[was_reset_key] = False


def _blocking_manager_key() -> pytest.StashKey[Any]:
    from pytest_django.plugin import blocking_manager_key

    return blocking_manager_key
