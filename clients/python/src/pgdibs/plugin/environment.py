"""Chooses the variables that a run sets, and the driver of each URL: by the ini file, the environment, the `.env*` files."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import pytest

from pgdibs.plugin.env_files import EnvFiles
from pgdibs.plugin.ini import ini_value
from pgdibs.plugin.variables import Variable, exported, meant_driver
from pgdibs.pytest_plugin import Absent
from pgdibs.urls import is_postgres, scheme_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgdibs.plugin.settings import Settings

DEFAULTS = ("DATABASE_URL", "TEST_DATABASE_URL")
"""What is set when `pgdibs_env` is absent; the second only where it is in use."""


def choose_variables(config: pytest.Config, settings: Settings, environment: Mapping[str, str]) -> None:
    """Fill in `settings.variables` and, where the choice decides about them, `aliases` and `left_alone`.

    Raises `pytest.UsageError` when an entry of `pgdibs_env` is malformed or names an alias that is not declared.
    """
    files = EnvFiles(config.inipath.parent if config.inipath is not None else config.rootpath)
    settings.is_django = is_django_in_use(config, environment)
    entries = ini_value(config, "pgdibs_env")
    if isinstance(entries, Absent) and not entries:
        variables = _default_variables(settings, environment, files)
    else:
        variables = [Variable.parse(str(entry)) for entry in entries]
        for entry, variable in zip(entries, variables):
            if variable.alias not in settings.aliases:
                _add_django_alias(settings, str(entry), variable)
    settings.variables = tuple(variable.with_driver_of(_urls_before(variable.name, environment, files)) for variable in variables)


def is_django_in_use(config: pytest.Config, environment: Mapping[str, str]) -> bool:
    """Whether pytest-django is loaded and has settings; it finds them a moment later, in the same places."""
    if not has_pytest_django(config):
        return False
    from pgdibs.plugin.django_databases import has_settings

    # A variable that is empty counts too, as it does there; --dc without settings configures nothing.
    name = "DJANGO_SETTINGS_MODULE"
    in_ini_or_environment = environment[name] if name in environment else config.getini(name)
    return bool(getattr(config.known_args_namespace, "ds", None) or in_ini_or_environment) or has_settings()


def has_pytest_django(config: pytest.Config) -> bool:
    """Whether pytest-django is loaded: by the name of its entry point, or by that of its module after `-p`."""
    return any(map(config.pluginmanager.hasplugin, ("django", "pytest_django.plugin")))


def _default_variables(settings: Settings, environment: Mapping[str, str], files: EnvFiles) -> list[Variable]:
    """The variables of `DEFAULTS`, but for those that name another engine. With Django, which is connected to its leases without
    them, only those that would lead to a Postgres database while there are no leases (`--pgdibs=off`).
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
    """The values of a variable before this run sets it, those whose driver counts most first."""
    current = [environment.get(name, "")]
    # A value that pgdibs itself has set, in `pgdibs run` or in a pytest around this one, is no word of the project.
    return [*files.values(name), *current] if name in exported(environment) else [*current, *files.values(name)]


def _add_django_alias(settings: Settings, entry: str, variable: Variable) -> None:
    """Accept an alias that is not declared if it can be one of Django's, whose settings are read later and checked then."""
    if settings.is_django and not meant_driver(variable.alias):
        settings.django_aliases.add(variable.alias)
        settings.add_alias(f"{variable.alias}={pool_of_alias(settings.pool, variable.alias)}", "pgdibs_env in the ini file")
        return
    raise undeclared_alias(settings, f"pgdibs_env in the ini file: `{entry}`", variable)


def pool_of_alias(pool: str, alias: str) -> str:
    """The pool of another alias of Django than `default`, whose pool is `pool`."""
    return f"{pool}_{re.sub('[^a-z0-9_]', '_', alias.lower())}"


def undeclared_alias(settings: Settings, where: str, variable: Variable) -> pytest.UsageError:
    """The error for an alias that nothing declares, with what was probably meant."""
    driver = meant_driver(variable.alias)
    near = difflib.get_close_matches(variable.alias, settings.aliases, n=1)
    if driver:
        advice = f"to name a driver write `{variable.name}={driver}://`"
    elif near:
        advice = f"did you mean `{variable.name}={near[0]}`? `pgdibs_aliases = {variable.alias}` declares a further database"
    else:
        advice = f"if each process needs this further database, declare it: `pgdibs_aliases = {variable.alias}`"
    return pytest.UsageError(f"pgdibs: {where} names the alias `{variable.alias}`, which nothing declares; {advice}")
