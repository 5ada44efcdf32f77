"""Chooses the variables that a run sets, and the driver of each URL, from the ini file, the environment and `.env*` files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pgdibs.plugin.env_files import EnvFiles
from pgdibs.plugin.ini import ini_value, is_absent
from pgdibs.plugin.variables import LIBPQ, Variable, exported, meant_driver
from pgdibs.urls import is_postgres, scheme_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgdibs.plugin.settings import Settings

DEFAULTS = ("DATABASE_URL", "TEST_DATABASE_URL")
"""The variables to set without `pgdibs_env`; the second one only if the project uses it."""


def choose_variables(config: pytest.Config, settings: Settings, environment: Mapping[str, str]) -> None:
    """Set `settings.variables` and what follows from it: `aliases`, `left_alone`, `django_aliases`.

    Raises `pytest.UsageError` if an entry of `pgdibs_env` is malformed or names an undeclared alias.
    """
    files = EnvFiles(settings.directory)
    settings.is_django = is_django_in_use(config, environment)
    entries = ini_value(config, "pgdibs_env")
    if not entries and is_absent(config, "pgdibs_env"):
        variables = _default_variables(settings, environment, files)
    else:
        entries = [name for entry in entries for name in (LIBPQ if entry == "PG*" else (str(entry),))]
        variables = [Variable.parse(entry) for entry in entries]
        for entry, variable in zip(entries, variables):
            if variable.alias not in settings.aliases:
                _add_django_alias(settings, entry, variable)
    settings.variables = tuple(variable.with_driver_of(_urls_before(variable.name, environment, files)) for variable in variables)


def is_django_in_use(config: pytest.Config, environment: Mapping[str, str]) -> bool:
    """Whether pytest-django is loaded and has settings. It reads them later, from the same places."""
    if not has_pytest_django(config):
        return False
    from pgdibs.plugin.django_databases import has_settings

    # An empty variable counts, as in pytest-django; --dc without settings configures nothing.
    name = "DJANGO_SETTINGS_MODULE"
    in_ini_or_environment = environment[name] if name in environment else config.getini(name)
    return bool(getattr(config.known_args_namespace, "ds", None) or in_ini_or_environment) or has_settings()


def has_pytest_django(config: pytest.Config) -> bool:
    """Whether pytest-django is loaded: by the name of its entry point, or by that of its module after `-p`."""
    return any(map(config.pluginmanager.hasplugin, ("django", "pytest_django.plugin")))


def _default_variables(settings: Settings, environment: Mapping[str, str], files: EnvFiles) -> list[Variable]:
    """The variables of `DEFAULTS` except those that name another engine.

    Django needs no variable for its leases. With Django, and without leases (`--pgdibs=off`), the variables with a Postgres URL.
    """
    variables = []
    for name in DEFAULTS:
        is_named = name in environment or bool(files.values(name))
        urls = list(filter(None, [environment[name]] if environment.get(name) else files.values(name)))
        others = [url for url in urls if scheme_of(url) or url.startswith(("sqlite:", "file:"))]
        if settings.is_django:
            is_set = settings.is_off and any(map(is_postgres, urls))
        elif urls and others == urls and not any(map(is_postgres, urls)):
            settings.left_alone[name] = others[0].partition(":")[0]
            is_set = False
        else:
            is_set = is_named or name == "DATABASE_URL"
        if is_set:
            variables.append(Variable(name))
    return variables


def _urls_before(name: str, environment: Mapping[str, str], files: EnvFiles) -> list[str]:
    """The values of a variable before this run sets it; the first Postgres URL decides the driver."""
    current = [environment.get(name, "")]
    # A value from pgdibs itself (`pgdibs run`, an outer pytest) says nothing about the project, so files come first.
    return [*files.values(name), *current] if name in exported(environment) else [*current, *files.values(name)]


def _add_django_alias(settings: Settings, entry: str, variable: Variable) -> None:
    """Accept an undeclared alias if Django may have it; `django.pytest_sessionstart` checks it later."""
    if settings.is_django and not meant_driver(variable.alias):
        settings.django_aliases.add(variable.alias)
        settings.add_alias(f"{variable.alias}={pool_of_alias(settings.pool, variable.alias)}", "pgdibs_env in the ini file")
        return
    raise undeclared_alias(settings, f"pgdibs_env in the ini file: `{entry}`", variable)


def pool_of_alias(pool: str, alias: str) -> str:
    """The pool of an alias of Django other than `default`, whose pool is `pool`."""
    return f"{pool}_{re.sub('[^a-z0-9_]', '_', alias.lower())}"


def undeclared_alias(settings: Settings, where: str, variable: Variable) -> pytest.UsageError:
    """The error for an undeclared alias, with a suggestion."""
    import difflib

    driver = meant_driver(variable.alias)
    similar = difflib.get_close_matches(variable.alias, settings.aliases, n=1)
    if driver:
        hint = f"to name a driver write `{variable.name}={driver}://`"
    elif similar:
        hint = f"did you mean `{variable.name}={similar[0]}`? `pgdibs_aliases = {variable.alias}` declares a further database"
    else:
        hint = f"if each process needs this further database, declare it: `pgdibs_aliases = {variable.alias}`"
    return pytest.UsageError(f"pgdibs: {where} names the alias `{variable.alias}`, which nothing declares; {hint}")
