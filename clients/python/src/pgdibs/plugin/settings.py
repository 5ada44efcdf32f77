"""The settings of the plugin, read and validated once: flag over variable over ini file over default."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import pytest

from pgdibs.plugin.ini import ini_value
from pgdibs.plugin.variables import Variable

DEFAULT_URL = "http://127.0.0.1:7432"


@dataclass
class Settings:
    """The settings of one run."""

    pool: str
    url: str
    start: str
    """`auto` or `never`."""
    timeout_seconds: float
    keep: str
    """`failed` or `never`."""
    aliases: dict[str, str]
    """The pool of each alias; `default` is always there."""
    directory: Path
    """The directory of the ini file: globs and the build command are relative to it, whatever `--rootdir` says."""
    fingerprint: tuple[str, ...]
    """Globs relative to `directory`; empty if the daemon builds the template."""
    fingerprint_env: tuple[str, ...]
    """The variables whose values are part of the fingerprint."""
    build: str
    has_tmpdir: bool
    is_off: bool
    """Whether the run takes no leases (`--pgdibs=off`)."""
    guard: str
    """`error`, `warn` or `off`: what happens to a connection to a database that was not leased."""
    guard_origin: str
    """The setting that `guard` comes from, as in `PGDIBS_GUARD`."""
    allow: tuple[str, ...]
    """`host:port/database` globs that the guard allows."""
    template_cache: Optional[Path] = None
    """The folder in which templates are kept as files; None: none are."""
    login: str = ""
    """`plain`, `createdb` or `superuser`, which the pools get; empty: they keep what they have."""
    variables: tuple[Variable, ...] = ()
    """The variables to set, each with its driver. `choose_variables` sets this field and the next three."""
    left_alone: dict[str, str] = field(default_factory=dict)
    """The variables that keep their value because it names another engine than Postgres, with its scheme."""
    django_aliases: set[str] = field(default_factory=set)
    """The undeclared aliases of `pgdibs_env`, which must be aliases of Django."""
    is_django: bool = False
    """Whether pytest-django is loaded and has settings."""
    replaced: dict[str, str] = field(default_factory=dict)
    """The former values, by name, of the variables that name a database of Django's settings and that this process has made
    unavailable."""

    @property
    def builder(self) -> str:
        """What builds the templates when there is no `pgdibs_build`, for the messages."""
        return "`migrate`" if self.is_django else "the hook pytest_pgdibs_build_template"

    def to_payload(self) -> dict[str, str]:
        """The settings that workers take from the controller; on another host they have neither its environment nor its files."""
        return {"pool": self.pool, "url": self.url, "timeout": str(self.timeout_seconds), "keep": self.keep, "guard": self.guard}

    def add_alias(self, entry: str, origin: str) -> None:
        """Add a database for each process; `entry` is `ALIAS` or `ALIAS=POOL`."""
        alias, _, pool = entry.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}", alias):
            raise pytest.UsageError(f"pgdibs: {origin}: `{entry}` is neither ALIAS nor ALIAS=POOL, as in stats=myapp_stats_test")
        self.aliases[alias] = validated_pool(pool or self.pool, origin)


settings_key: pytest.StashKey[Settings] = pytest.StashKey()
"""The settings of a process of a run; a process that builds a template has none."""


def read_settings(config: pytest.Config, inherited: Mapping[str, str]) -> Settings:
    """Read all settings except the variables to set; those `inherited` from a controller win.

    Raises `pytest.UsageError` with the setting, its origin, the rule and a hint.
    """
    pool, pool_origin = _value(config, inherited, "pool", "")
    start, start_origin = _value(config, inherited, "start", "never")
    keep, keep_origin = _value(config, inherited, "keep", "never")
    timeout, timeout_origin = _value(config, inherited, "timeout", "180")
    url, url_origin = _value(config, inherited, "url", DEFAULT_URL)
    if not re.match(r"https?://[^/]", url):
        raise pytest.UsageError(f"pgdibs: {url_origin} is `{url}`; it has to be the daemon's address, as in {DEFAULT_URL}")
    guard, guard_origin = _guard_setting(config, inherited)
    directory = config.inipath.parent if config.inipath is not None else config.rootpath
    cache, _ = _value(config, inherited, "template_cache", "")
    settings = Settings(
        pool=validated_pool(pool, pool_origin),
        url=url.rstrip("/"),
        start=_one_of(start, start_origin, "auto", "never"),
        timeout_seconds=_seconds(timeout, timeout_origin),
        keep=_one_of(keep, keep_origin, "failed", "never"),
        aliases={"default": pool},
        directory=directory,
        fingerprint=tuple(map(str, ini_value(config, "pgdibs_fingerprint"))),
        fingerprint_env=tuple(map(str, ini_value(config, "pgdibs_fingerprint_env"))),
        build=str(ini_value(config, "pgdibs_build") or ""),
        has_tmpdir=bool(ini_value(config, "pgdibs_tmpdir")),
        is_off=config.known_args_namespace.pgdibs_mode == "off",
        guard=guard,
        guard_origin=guard_origin,
        allow=tuple(map(str, ini_value(config, "pgdibs_allow"))),
        template_cache=directory / cache if cache else None,
        login=_login(config),
    )
    for entry in ini_value(config, "pgdibs_aliases"):
        settings.add_alias(str(entry), "pgdibs_aliases in the ini file")
    for name in ("build", "fingerprint_env"):
        if getattr(settings, name) and not settings.fingerprint:
            raise pytest.UsageError(
                f"pgdibs: pgdibs_{name} needs pgdibs_fingerprint, the globs of all files that define the schema "
                "(as in `pgdibs_fingerprint = migrations/*.sql`): it says when to build again"
            )
    return settings


def guard_mode(config: pytest.Config, inherited: Mapping[str, str]) -> str:
    """The mode of the guard; a process that builds a template needs no other setting."""
    return _guard_setting(config, inherited)[0]


def _guard_setting(config: pytest.Config, inherited: Mapping[str, str]) -> tuple[str, str]:
    mode, origin = _value(config, inherited, "guard", "error")
    return _one_of(mode, origin, "error", "warn", "off"), origin


def validated_pool(pool: str, origin: str) -> str:
    """The name of the pool; raises `pytest.UsageError` if it is invalid."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", pool):
        raise pytest.UsageError(
            f"pgdibs: {origin} is `{pool}`; a pool is 1 to 40 lower-case letters, digits and underscores, no digit first"
        )
    return pool


def _login(config: pytest.Config) -> str:
    login = str(ini_value(config, "pgdibs_login") or "")
    return login and _one_of(login, "pgdibs_login in the ini file", "plain", "createdb", "superuser")


def _value(config: pytest.Config, inherited: Mapping[str, str], name: str, default: str) -> tuple[str, str]:
    """The value of a setting, and its origin for errors."""
    if name in inherited:
        return inherited[name], f"{name}, as the controller has it,"
    flag: Optional[str] = getattr(config.known_args_namespace, f"pgdibs_{name}", None)
    if flag is not None:
        return flag, f"--pgdibs-{name}"
    variable = f"PGDIBS_{name.upper()}"
    if os.environ.get(variable):
        return os.environ[variable], variable
    ini = ini_value(config, f"pgdibs_{name}")
    return (str(ini), f"pgdibs_{name} in the ini file") if ini else (default, f"pgdibs_{name}")


def _one_of(value: str, origin: str, *allowed: str) -> str:
    if value not in allowed:
        raise pytest.UsageError(f"pgdibs: {origin} is `{value}`; it has to be {' or '.join(f'`{one}`' for one in allowed)}")
    return value


def _seconds(value: str, origin: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 86400:
        raise pytest.UsageError(f"pgdibs: {origin} is `{value}`; it has to be a number of seconds above 0, at most 86400")
    return seconds
