"""Ensures that the template of every pool exists; exactly one run builds it, in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import unquote, urlsplit

import pytest

from pgdibs.client import holder_name
from pgdibs.errors import PoolNotFound, TemplateNotFound
from pgdibs.plugin.build_process import run_build
from pgdibs.plugin.connection_guard import parse_exemptions
from pgdibs.plugin.connection_guard.targets import of_url
from pgdibs.plugin.failures import BuildFailed
from pgdibs.plugin.inputs import hash_of, inputs_for_daemon, named_inputs_key
from pgdibs.plugin.variables import EXPORTED, LIBPQ, PLUGIN_STATE, Unavailable, marked, set_environment
from pgdibs.templates import TemplateReady, combined, inputs_of, template_path
from pgdibs.urls import retarget

if TYPE_CHECKING:
    from pgdibs.client import Client
    from pgdibs.plugin.progress import Progress
    from pgdibs.plugin.settings import Settings

BUILD_SECONDS = 600.0
"""How long a build may take, and how long to wait for the build of another run."""


@dataclass(frozen=True)
class BuildTarget:
    """The empty database that a build fills."""

    url: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 5432

    @property
    def user(self) -> str:
        return unquote(urlsplit(self.url).username or "")

    @property
    def password(self) -> str:
        return unquote(urlsplit(self.url).password or "")

    @property
    def database(self) -> str:
        return unquote(urlsplit(self.url).path.lstrip("/"))


@dataclass
class Templates:
    """The templates of a run, one for each pool."""

    config: pytest.Config
    settings: Settings
    client: Client
    progress: Progress
    seconds: float = 0.0
    """How long the fingerprint and `ensure` took."""
    is_reused: bool = True
    """Whether all of them existed before this run."""
    inputs: dict[str, str] = field(default_factory=dict)
    """What the fingerprint is made of, with a hash of each."""
    changes: Optional[dict[str, Any]] = None
    """Of a template that this run has built: how its inputs differ from those of the one before; None if that is not known."""
    _fingerprints: dict[str, str] = field(default_factory=dict)
    _is_forced: bool = False
    """Whether to build although the templates may exist."""
    _are_current: bool = False
    _hidden: list[str] = field(default_factory=list)
    """The variables with URLs of other databases, which the last build saw as unavailable."""

    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each pool; empty if the daemon builds the templates. Sends no request.

        Also adds the aliases of the hook `pytest_pgdibs_aliases` to the settings.
        """
        for entries in self.config.hook.pytest_pgdibs_aliases(config=self.config, pool=self.settings.pool):
            for entry in entries:
                self.settings.add_alias(entry, "the hook pytest_pgdibs_aliases")
        self._is_forced = bool(self.config.known_args_namespace.pgdibs_rebuild)
        if not self.settings.fingerprint:
            if self._is_forced:
                raise pytest.UsageError(
                    "pgdibs: --pgdibs-rebuild has no effect here: without pgdibs_fingerprint the daemon builds the template; "
                    "`pgdibs template drop` forces a build"
                )
            if self.settings.template_cache:
                raise pytest.UsageError(
                    "pgdibs: pgdibs_template_cache has no effect here: without pgdibs_fingerprint the daemon builds the "
                    "template; leave it out, also PGDIBS_TEMPLATE_CACHE"
                )
            return {}
        started = time.monotonic()
        self._fingerprints = dict.fromkeys(self.settings.aliases.values(), self._fingerprint())
        self._is_forced = self._is_forced or any(self.config.hook.pytest_pgdibs_is_build_forced(config=self.config))
        self.seconds += time.monotonic() - started
        return self._fingerprints

    @property
    def may_be_ready(self) -> bool:
        """Whether a lease may succeed without `ensure`: not if the run builds the template again."""
        return not self._is_forced

    def set_logins(self) -> None:
        """Give the pools the logins of `pgdibs_login`; without it they keep what they have, and no request is sent.

        It has to precede the first lease: a login has the rights that its pool had when the database was cloned.
        """
        if self.settings.login:
            for pool in dict.fromkeys(self.settings.aliases.values()):
                self.client.put_pool(pool, login=self.settings.login)

    def ensure(self) -> None:
        """Ensure the daemon, the pools and the templates of `fingerprints`. Raises a `PgdibsError` or `BuildFailed`."""
        if self.settings.start == "auto":
            from pgdibs.start import ensure_daemon

            ensure_daemon(self.client, print_line=self.progress.print_line)
        started = time.monotonic()
        self._are_current = True
        self.set_logins()
        alias_of = {pool: alias for alias, pool in reversed(self.settings.aliases.items())}
        cache = None
        if self.settings.template_cache is not None:
            from pgdibs.plugin.template_cache import TemplateCache

            cache = TemplateCache(self.settings.template_cache, self.client, self.progress.print_line)
        for pool, alias in alias_of.items() if self._fingerprints else ():
            if self._is_forced:
                self._drop(pool)
            elif cache is not None:
                self.client.put_pool(pool)
                cache.load(pool, self._fingerprints[pool])
            try:
                ready = self._ensure_template(pool, alias)
            except PoolNotFound:
                self.client.put_pool(pool)
                ready = self._ensure_template(pool, alias)
            self.is_reused = self.is_reused and ready.reused
            self.changes = self.changes or ready.input_changes
            if cache is not None and not ready.reused:
                cache.save(pool, self._fingerprints[pool])
        if self._fingerprints:
            self.seconds += time.monotonic() - started

    def make_current(self) -> None:
        """Make the templates the current ones of their pools, which leases without fingerprint get. Do not wait for the answers.

        Does nothing when called again, or after `ensure`, which has the same effect.
        """
        if self._are_current:
            return
        self._are_current = True
        for pool, fingerprint in self._fingerprints.items():
            # Also the errors of plugins that forbid sockets: no test fails because of this.
            with contextlib.suppress(Exception):
                self.client.send("PUT", template_path(pool, fingerprint), {"holder": holder_name(), "wait_seconds": 0})

    def _ensure_template(self, pool: str, alias: str) -> TemplateReady:
        def build(url: str) -> None:
            self._build(url, alias)

        return self.client.ensure_template(
            pool, self._fingerprints[pool], build, inputs=self.inputs, deadline_seconds=BUILD_SECONDS
        )

    def _fingerprint(self) -> str:
        """The fingerprint of the files, the build, the variables and the results of the hook."""
        directory = self.settings.directory
        for glob in self.settings.fingerprint:
            if glob.startswith("/") or not any(directory.glob(glob)):
                raise pytest.UsageError(
                    f"pgdibs: pgdibs_fingerprint in the ini file: `{glob}` matches nothing in {directory}, the directory of the "
                    "ini file; it takes globs for all files that define the schema, as in migrations/*.sql or ../../db/*.sql"
                )
        files = inputs_of(directory, self.settings.fingerprint)
        # A change of the command or the variables makes a new template, because the old one may be wrong.
        build = [self.settings.build, *sorted(f"{each.name} {each.alias} {each.part}" for each in self.settings.variables)]
        values = [f"{name}={os.environ[name]}" if name in os.environ else name for name in self._variables_of_build()]
        more = sorted(self.config.hook.pytest_pgdibs_fingerprint(config=self.config))
        others = {"pgdibs_build": hash_of(build[0]), "pgdibs_env": hash_of("\n".join(build[1:]))}
        others.update((value.partition("=")[0], hash_of(value)) for value in values)
        named = self.config.stash.get(named_inputs_key, {})
        unnamed = [text for text in more if not (named and text.startswith("django "))]
        others.update({"pytest_pgdibs_fingerprint": hash_of("\0".join(unnamed))} if unnamed else {}, **named)
        self.inputs = inputs_for_daemon(files, others)
        parts = [combined(files), *build, *values, *more]
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()

    def _variables_of_build(self) -> list[str]:
        """The names of `pgdibs_fingerprint_env`; refuses one that pgdibs sets, because its value differs in each run."""
        own = {*(variable.name for variable in self.settings.variables), *self.settings.replaced, "DATABASE_URL", *LIBPQ}
        for name in self.settings.fingerprint_env:
            if name in own:
                raise pytest.UsageError(
                    f"pgdibs: pgdibs_fingerprint_env in the ini file: pgdibs itself sets {name} for the build, to its database; "
                    "leave it out"
                )
        return sorted(self.settings.fingerprint_env)

    def _drop(self, pool: str) -> None:
        with contextlib.suppress(PoolNotFound, TemplateNotFound):
            self.client.call("DELETE", template_path(pool, self._fingerprints[pool]))

    def _build(self, url: str, alias: str) -> None:
        if self.settings.build:
            command, directory = shlex.split(self.settings.build), self.settings.directory
        else:
            # The same command line, so that pytest loads the same conftest and plugins; `configure` makes it a builder.
            command = [sys.executable, "-m", "pytest", *map(str, self.config.invocation_params.args)]
            directory = self.config.invocation_params.dir
        shown = f"`{self.settings.build}` (pgdibs_build)" if self.settings.build else self.settings.builder
        environment = self._environment(url, alias)
        self.progress.print_line(f"building the template of pool {self.settings.aliases[alias]} with {shown}")
        try:
            status, lines = run_build(command, directory, environment, BUILD_SECONDS, self.progress.print_line)
        except OSError as error:
            raise BuildFailed(f"the build of the template failed: {shown} did not start: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise BuildFailed(f"the build of the template failed: {shown} was ended after {BUILD_SECONDS:.0f} s") from error
        if not self.settings.build and lines and lines[0].startswith("ERROR: pgdibs: "):
            raise BuildFailed("\n".join(lines).strip().replace("ERROR: pgdibs: ", ""))
        if status != 0:
            output = "\n".join(lines)
            printed = f"and printed:\n{output}" if output.strip() else "and printed nothing"
            hidden = (
                f"\n{', '.join(self._hidden)}: unavailable in a build, because pgdibs_env does not name it (if the build is to "
                "reach that database, name the database in pgdibs_allow)"
                if self._hidden
                else ""
            )
            raise BuildFailed(f"the build of the template failed: {shown} ended with {status} {printed}{hidden}")

    def _environment(self, url: str, alias: str) -> dict[str, str]:
        """The environment of the build: its own database in the variables of its alias, and no other database."""
        target = BuildTarget(url)
        before = dict(os.environ)
        try:
            for other in self.settings.aliases:
                set_environment(self.settings.variables, other, target if other == alias else Unavailable())
            environment = dict(os.environ)
        finally:
            os.environ.clear()
            os.environ.update(before)
        self._hidden = self._hide_others(environment)
        if not self.settings.build:
            # The builder reads Django's settings, which tell the aliases apart by these values.
            environment.update(self.settings.replaced)
        if not any(variable.name == "DATABASE_URL" for variable in self.settings.variables):
            environment["DATABASE_URL"] = url
        # `alembic` is that of this Python, even if its virtual environment is not activated.
        environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environment.get("PATH", os.defpath)])
        environment.update(
            PGHOST=target.host,
            PGPORT=str(target.port),
            PGUSER=target.user,
            PGPASSWORD=target.password,
            PGDATABASE=target.database,
            PGDIBS_ALIAS=alias,
        )
        environment[EXPORTED] = marked(environment, ("DATABASE_URL", *LIBPQ))
        if not self.settings.build:
            environment[PLUGIN_STATE] = json.dumps(
                {"build": url, "alias": alias, "variables": [variable.to_payload() for variable in self.settings.variables]}
            )
        return environment

    def _hide_others(self, environment: dict[str, str]) -> list[str]:
        """Make all other Postgres URLs unavailable, so that a build that reads the wrong one fails and changes no database.

        Returns the names of the variables.
        """
        set_names = {variable.name for variable in self.settings.variables}
        exemptions = parse_exemptions(self.settings.allow)
        hidden = []
        for name, value in environment.items():
            target = of_url(value) if name not in set_names else None
            if target is not None and not any(exemption.covers(target) for exemption in exemptions):
                environment[name] = retarget(value, Unavailable().url)
                hidden.append(name)
        return sorted(hidden)


class Builder:
    """The hooks of a process that calls `pytest_pgdibs_build_template` instead of running tests."""

    def __init__(self, url: str, alias: str) -> None:
        self.url = url
        self._alias = alias

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Optional[int]:
        """Build the template, and end."""
        hook = config.hook.pytest_pgdibs_build_template
        if not hook.get_hookimpls():
            raise pytest.UsageError(
                "pgdibs: nothing says how to build the template: set pgdibs_build to a command (as in "
                "`pgdibs_build = alembic upgrade head`), or write the hook pytest_pgdibs_build_template(url) in conftest.py"
            )
        hook(url=self.url, alias=self._alias, config=config)
        return 0
