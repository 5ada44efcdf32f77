"""Decides what this process is (a worker, alone, a controller, a builder, or one that only looks around) and sets it up."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from typing import Optional

import pytest

from pgdibs import granted
from pgdibs.client import Client
from pgdibs.errors import PgdibsError
from pgdibs.plugin import connection_guard, databases_key, settings_key
from pgdibs.plugin.connection_guard import Role
from pgdibs.plugin.databases import Databases
from pgdibs.plugin.environment import choose_variables, has_pytest_django
from pgdibs.plugin.failures import BuildFailed, usage_error
from pgdibs.plugin.ini import unknown_settings
from pgdibs.plugin.process_owner import is_pytest
from pgdibs.plugin.settings import Settings, guard_mode, read_settings
from pgdibs.plugin.summary import Off, Summary
from pgdibs.plugin.variables import EXPORTED, Nowhere, Variable, point
from pgdibs.plugin.worker import Worker
from pgdibs.pytest_plugin import LOADED_AT


def begin(config: pytest.Config) -> None:
    """Set up this process; raises `pytest.UsageError` when it cannot have what it needs."""
    has_settings_of_another = "PGDIBS_HANDOVER" in os.environ
    try:
        _begin(config)
    except pytest.UsageError as error:
        # A misspelt setting may be the cause. It is not refused earlier, because conftest.py may register it.
        unknown = [] if has_settings_of_another else unknown_settings(config)
        raise pytest.UsageError(*unknown, *error.args) from error


def _begin(config: pytest.Config) -> None:
    if has_pytest_django(config):
        from pgdibs.plugin import django

        config.pluginmanager.register(django, "pgdibs-django")
    handover = json.loads(os.environ.pop("PGDIBS_HANDOVER", "null"))
    if handover is not None and "build" in handover:
        from pgdibs.plugin.template import Builder

        granted.add(handover["build"])
        variables = tuple(map(Variable.from_payload, handover["variables"]))
        connection_guard.install(
            config, guard_mode(config, {}), config.getini("pgdibs_allow"), Role.BUILDER, variables, is_pytest()
        )
        config.pluginmanager.register(Builder(handover["build"], handover["alias"]), "pgdibs-builder")
        return
    settings = config.stash[settings_key] = read_settings(config, handover["settings"] if handover is not None else {})
    ends_with_run = handover is not None or is_pytest()
    restore_environment_afterwards(config, settings, ends_with_run)
    if handover is not None:
        settings.aliases = handover["aliases"]
        settings.variables = tuple(map(Variable.from_payload, handover["variables"]))
    else:
        choose_variables(config, settings, os.environ)
    # From here on it is known which variables this process sets.
    role = role_of(config, settings, handover)
    connection_guard.install(config, settings.guard, settings.allow, role, settings.variables, ends_with_run)
    if handover is not None:
        client = Client(settings.url, handover["token"] or None)
        worker = os.environ["PYTEST_XDIST_WORKER"]
        databases = Databases(config, settings, client, handover["run"], worker, lambda: handover["fingerprints"], True)
        begin_testing(config, databases, None, handover["tmpdir"])
        return
    if settings.is_off:
        set_unavailable(settings)
        config.pluginmanager.register(Off(settings), "pgdibs-off")
        return
    # Here and not above: a worker, of which there are many, needs neither.
    from pgdibs.plugin.controller import Controller
    from pgdibs.plugin.template import Templates
    from pgdibs.plugin.termination import end_the_run_on_sigterm

    client, run = Client(settings.url), str(uuid.uuid4())
    templates = Templates(config, settings, client)
    if only_looks_around(config):
        set_unavailable(settings)
        return
    end_the_run_on_sigterm(config, settings.url, run)
    summary = Summary(settings, templates, LOADED_AT)
    config.pluginmanager.register(summary, "pgdibs-summary")
    tmpdir = make_tmpdir(config) if settings.has_tmpdir else ""
    if not distributes(config):
        begin_testing(config, Databases(config, settings, client, run, "main", templates.ensure), summary, tmpdir)
        return
    set_unavailable(settings)
    controller = Controller(config, settings, client, run, templates, summary, LOADED_AT, tmpdir)
    config.pluginmanager.register(controller, "pgdibs-controller")


def role_of(config: pytest.Config, settings: Settings, handover: Optional[object]) -> Role:
    """What this process is for the guard; one with a `handover` is a worker."""
    if handover is not None:
        return Role.TESTS
    if settings.is_off:
        return Role.WITHOUT_LEASES
    return Role.COLLECTS if only_looks_around(config) else Role.CONTROLLER if distributes(config) else Role.TESTS


def begin_testing(config: pytest.Config, databases: Databases, summary: Optional[Summary], tmpdir: str) -> None:
    """This process runs tests: it leases now when variables have to be set, otherwise when something asks."""
    worker = Worker(databases, LOADED_AT)
    if summary is not None:
        summary.databases = databases
        summary.add(worker.share)
    config.stash[databases_key] = databases
    if tmpdir:
        use_tmpdir(os.path.join(tmpdir, databases.worker))
    if databases.settings.variables:
        try:
            databases.obtain()
        except (PgdibsError, BuildFailed) as error:
            raise usage_error(error, databases.settings) from error
    config.pluginmanager.register(worker, "pgdibs-worker")


def set_unavailable(settings: Settings) -> None:
    """Set all variables to a server that does not exist, for a process that has no database."""
    for alias in settings.aliases:
        point(settings.variables, alias, Nowhere())


def only_looks_around(config: pytest.Config) -> bool:
    """Whether pytest was asked for something that runs no test."""
    names = ("collectonly", "help", "version", "showfixtures", "show_fixtures_per_test", "markers", "setupplan", "cacheshow")
    return any(getattr(config.known_args_namespace, name, None) for name in names)


def distributes(config: pytest.Config) -> bool:
    """Whether this is going to be a controller, which runs no test itself; xdist decides it later, by the same options."""
    arguments = config.known_args_namespace
    processes = getattr(arguments, "numprocesses", None)
    if processes in ("auto", "logical"):
        # These are the ways in which xdist comes to no workers.
        return not arguments.usepdb and os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") != "0"
    if processes is not None:
        return int(processes) > 0
    is_distributed = getattr(arguments, "distload", False) or getattr(arguments, "dist", "no") != "no"
    return (is_distributed and bool(getattr(arguments, "tx", None))) or bool(getattr(arguments, "looponfail", False))


def restore_environment_afterwards(config: pytest.Config, settings: Settings, ends_with_run: bool) -> None:
    """After the run the environment is what it was, for a program that calls `pytest.main` and goes on.

    In a process that ends with the run (`ends_with_run`), the variables that pgdibs sets are unavailable instead: a function of
    `atexit`, or a thread, must not find the developer's database in them.
    """
    before = dict(os.environ)

    def restore() -> None:
        kept: set[str] = set()
        if ends_with_run:
            set_unavailable(settings)
            kept = {EXPORTED, *(variable.name for variable in settings.variables)}
        for name in {*os.environ, *before} - kept:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]

    config.add_cleanup(restore)


def make_tmpdir(config: pytest.Config) -> str:
    """The directory in which each process of the run gets its own; removed when the run ends."""
    directory = tempfile.mkdtemp(prefix="pgdibs-")
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    return directory


def use_tmpdir(directory: str) -> None:
    """Temporary files of this process and its children go there; pytest's own `tmp_path` stays where it was."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.makedirs(directory, exist_ok=True)
    os.environ["TMPDIR"] = directory
    tempfile.tempdir = None
