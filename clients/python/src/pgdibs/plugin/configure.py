"""Decides which kind of process this is (worker, single process, controller, builder, or one without tests), and sets it up."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from typing import Any, Optional

import pytest

from pgdibs import granted
from pgdibs.client import Client
from pgdibs.errors import PgdibsError
from pgdibs.plugin import connection_guard
from pgdibs.plugin.connection_guard import Role
from pgdibs.plugin.databases import Databases, databases_key
from pgdibs.plugin.environment import choose_variables, has_pytest_django
from pgdibs.plugin.failures import BuildFailed, usage_error
from pgdibs.plugin.ini import unknown_settings
from pgdibs.plugin.process_owner import is_pytest
from pgdibs.plugin.progress import Progress
from pgdibs.plugin.run_report import reports_of
from pgdibs.plugin.settings import Settings, guard_mode, read_settings, settings_key
from pgdibs.plugin.summary import Off, Summary
from pgdibs.plugin.timeline import begin_timeline
from pgdibs.plugin.variables import EXPORTED, PLUGIN_STATE, Unavailable, Variable, set_environment
from pgdibs.plugin.worker import Worker


def configure(config: pytest.Config, loaded_at: float) -> None:
    """Set up this process, whose plugin was loaded at `loaded_at` (seconds since the epoch).

    Raises `pytest.UsageError` when the process cannot have what it needs.
    """
    has_payload = PLUGIN_STATE in os.environ
    try:
        _configure(config, loaded_at)
    except pytest.UsageError as error:
        # A misspelt setting may be the cause. The plugin does not refuse it earlier, because conftest.py may register it.
        unknown = [] if has_payload else unknown_settings(config)
        raise pytest.UsageError(*unknown, *error.args) from error


def _configure(config: pytest.Config, loaded_at: float) -> None:
    if has_pytest_django(config):
        from pgdibs.plugin import django

        config.pluginmanager.register(django, "pgdibs-django")
    payload: Optional[dict[str, Any]] = json.loads(os.environ.pop(PLUGIN_STATE, "null"))
    if payload is not None and "build" in payload:
        configure_builder(config, payload)
        return
    settings = config.stash[settings_key] = read_settings(config, payload["settings"] if payload is not None else {})
    ends_with_run = payload is not None or is_pytest()
    restore_environment_afterwards(config, settings, ends_with_run)
    if payload is not None:
        settings.aliases = payload["aliases"]
        settings.variables = tuple(map(Variable.from_payload, payload["variables"]))
    else:
        choose_variables(config, settings, os.environ)
    # `settings.variables` is complete only here, and the guard needs it.
    role = role_of(config, settings, payload)
    connection_guard.install(config, settings.guard, settings.allow, role, settings.variables, ends_with_run)
    reports = [] if payload is not None else reports_of(config)
    has_lane = payload["has_lane"] if payload is not None else bool(reports)
    timeline = begin_timeline(loaded_at, ends_with_run, has_lane)
    if payload is not None:
        fingerprints: dict[str, str] = payload["fingerprints"]
        client = Client(settings.url, payload["token"] or None)
        worker = os.environ["PYTEST_XDIST_WORKER"]
        client.on_wait = Progress(config, worker).wait
        databases = Databases(config, settings, client, payload["run"], worker, fingerprints, timeline)
        configure_tests(config, databases, None, payload["tmpdir"])
        return
    if settings.is_off:
        if reports:
            raise pytest.UsageError(
                "pgdibs: --pgdibs-report has no effect with --pgdibs=off, which measures nothing; leave it out"
            )
        set_unavailable(settings)
        config.pluginmanager.register(Off(settings), "pgdibs-off")
        return
    # Imported here because workers, of which there are many, use none of them.
    from pgdibs.plugin.controller import Controller
    from pgdibs.plugin.template import Templates
    from pgdibs.plugin.termination import end_run_on_sigterm

    client, run = Client(settings.url), str(uuid.uuid4())
    progress = Progress(config)
    client.on_wait = progress.wait
    templates = Templates(config, settings, client, progress)
    if runs_no_tests(config):
        set_unavailable(settings)
        return
    end_run_on_sigterm(config, settings.url, run)
    summary = Summary(settings, templates, timeline, reports)
    config.pluginmanager.register(summary, "pgdibs-summary")
    tmpdir = make_tmpdir(config) if settings.has_tmpdir else ""
    if not distributes(config):
        databases = Databases(config, settings, client, run, "main", templates, timeline)
        configure_tests(config, databases, summary, tmpdir)
        return
    set_unavailable(settings)
    timeline.switch("import")
    controller = Controller(config, settings, client, run, templates, summary, timeline, tmpdir)
    config.pluginmanager.register(controller, "pgdibs-controller")


def configure_builder(config: pytest.Config, payload: dict[str, Any]) -> None:
    """Set up a process that calls the hook `pytest_pgdibs_build_template`; the payload is that of `Templates`."""
    from pgdibs.plugin.template import Builder

    granted.add(payload["build"])
    variables = tuple(map(Variable.from_payload, payload["variables"]))
    mode, allow = guard_mode(config, {}), config.getini("pgdibs_allow")
    connection_guard.install(config, mode, allow, Role.BUILDER, variables, is_pytest())
    config.pluginmanager.register(Builder(payload["build"], payload["alias"]), "pgdibs-builder")


def configure_tests(config: pytest.Config, databases: Databases, summary: Optional[Summary], tmpdir: str) -> None:
    """Set up a process that runs tests. It leases now if it sets variables, otherwise when a test asks for a database."""
    worker = Worker(databases, summary)
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
    databases.timeline.switch("import")
    config.pluginmanager.register(worker, "pgdibs-worker")
    guard_hooks = config.pluginmanager.get_plugin(connection_guard.HOOKS_NAME)
    if guard_hooks is not None:
        guard_hooks.observe(worker.connection_opens)


def role_of(config: pytest.Config, settings: Settings, payload: Optional[object]) -> Role:
    """The guard's role for this process; a process with a payload is a worker."""
    if payload is not None:
        return Role.TESTS
    if settings.is_off:
        return Role.WITHOUT_LEASES
    return Role.COLLECTS if runs_no_tests(config) else Role.CONTROLLER if distributes(config) else Role.TESTS


def set_unavailable(settings: Settings) -> None:
    """Set all variables to a server that does not exist, in a process that has no database."""
    for alias in settings.aliases:
        set_environment(settings.variables, alias, Unavailable())


def runs_no_tests(config: pytest.Config) -> bool:
    """Whether the command line asks only to collect or to list."""
    names = ("collectonly", "help", "version", "showfixtures", "show_fixtures_per_test", "markers", "setupplan", "cacheshow")
    return any(getattr(config.known_args_namespace, name, None) for name in names)


def distributes(config: pytest.Config) -> bool:
    """Whether xdist will make this process a controller. xdist decides later, by the same options."""
    arguments = config.known_args_namespace
    processes = getattr(arguments, "numprocesses", None)
    if processes in ("auto", "logical"):
        # In both cases xdist starts no workers.
        return not arguments.usepdb and os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") != "0"
    if processes is not None:
        return int(processes) > 0
    is_distributed = getattr(arguments, "distload", False) or getattr(arguments, "dist", "no") != "no"
    return (is_distributed and bool(getattr(arguments, "tx", None))) or bool(getattr(arguments, "looponfail", False))


def restore_environment_afterwards(config: pytest.Config, settings: Settings, ends_with_run: bool) -> None:
    """Restore the environment after the run, for a program that calls `pytest.main` and continues.

    If the process ends with the run (`ends_with_run`), the variables that pgdibs sets become unavailable instead, so that an
    `atexit` function or a thread does not find the developer's database in them.
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
    """Make the directory that holds one directory per process; the end of the run removes it."""
    directory = tempfile.mkdtemp(prefix="pgdibs-")
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    return directory


def use_tmpdir(directory: str) -> None:
    """Put the temporary files of this process and its children there; pytest's own `tmp_path` stays where it was."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.makedirs(directory, exist_ok=True)
    os.environ["TMPDIR"] = directory
    tempfile.tempdir = None
