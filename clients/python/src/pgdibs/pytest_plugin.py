"""The entry point of the pytest plugin: options, hooks, fixtures. It loads `pgdibs.plugin` only when `pgdibs_pool` is set.

Every pytest of an environment with pgdibs imports this module, so it must stay cheap.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pgdibs.lease import Lease
    from pgdibs.plugin.databases import Databases

LOADED_AT = time.time()
"""When this process loaded the plugin, in seconds since the epoch; the start-up time counts from here."""


class Hooks:
    """Hooks that a project's conftest.py or another plugin may implement."""

    @pytest.hookspec(firstresult=True)
    def pytest_pgdibs_build_template(self, url: str, alias: str, config: pytest.Config) -> Any:
        """Create the schema in the empty database at `url`. The plugin calls it once per fingerprint, in a process of its own,
        and sets the variables of `pgdibs_env` to that database before pytest imports conftest.py. A result other than None
        keeps pytest from calling other implementations.
        """

    @pytest.hookspec
    def pytest_pgdibs_aliases(self, config: pytest.Config, pool: str) -> Any:
        """More databases for each process, as strings like those of `pgdibs_aliases`. The plugin calls it once, before any
        lease. `pool` is that of `pgdibs_pool`.
        """

    @pytest.hookspec
    def pytest_pgdibs_fingerprint(self, config: pytest.Config) -> Any:
        """More input for the fingerprint besides the files of `pgdibs_fingerprint`, as a string."""

    @pytest.hookspec
    def pytest_pgdibs_is_build_forced(self, config: pytest.Config) -> Any:
        """Whether to build the template even if one with its fingerprint exists."""

    @pytest.hookspec
    def pytest_pgdibs_before_reset(self, config: pytest.Config) -> None:
        """Close connections: the plugin is about to replace all databases of this process by clean ones under the same URLs."""

    @pytest.hookspec
    def pytest_pgdibs_leased(self, config: pytest.Config, databases: Databases) -> None:
        """The plugin has leased the databases of this process (`databases.leases`, by alias) and set its variables."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the hooks above."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options. A flag wins over a variable, a variable over the ini file, the file over the default."""
    group = parser.getgroup("pgdibs", "databases leased from pgdibs (a flag wins over a variable, a variable over the ini file)")
    group.addoption(
        "--pgdibs-pool", metavar="POOL", help="Lease each test process a database of this pool (PGDIBS_POOL, ini pgdibs_pool)."
    )
    group.addoption(
        "--pgdibs",
        dest="pgdibs_mode",
        choices=("on", "off"),
        default="on",
        help="off: run without leases; the variables are set to a server that does not exist (default on).",
    )
    group.addoption("--pgdibs-url", metavar="URL", help="The daemon (PGDIBS_URL, ini pgdibs_url; default http://127.0.0.1:7432).")
    group.addoption(
        "--pgdibs-start",
        metavar="auto|never",
        help="auto: start a daemon when none answers (PGDIBS_START, ini pgdibs_start; default never).",
    )
    group.addoption(
        "--pgdibs-timeout",
        metavar="SECONDS",
        help="Wait at most so long for a database (PGDIBS_TIMEOUT, ini pgdibs_timeout; default 180).",
    )
    group.addoption(
        "--pgdibs-keep",
        metavar="failed|never",
        help="failed: keep the database of each failed test as it is, for an hour, and show how to open it "
        "(PGDIBS_KEEP, ini pgdibs_keep; default never).",
    )
    group.addoption(
        "--pgdibs-guard",
        metavar="error|warn|off",
        help="What happens to a connection of a test process to a Postgres database that was not leased: error stops it "
        "before it opens, and the run with it (PGDIBS_GUARD, ini pgdibs_guard; default error).",
    )
    group.addoption(
        "--pgdibs-report",
        metavar="FILE",
        action="append",
        help="Write where the time of the run went to FILE.json, or draw it to FILE.html: a lane for each worker. Can be given "
        "twice.",
    )
    group.addoption(
        "--pgdibs-rebuild",
        action="store_true",
        help="Build the template again although nothing of its fingerprint has changed, once for all workers. The daemon refuses "
        "this (409) while another run has leases of it.",
    )
    parser.addini(
        "pgdibs_pool",
        "the pool to lease databases from; with other settings of pgdibs and no pool the run stops, without any setting the "
        "plugin does nothing",
    )
    parser.addini("pgdibs_url", "the pgdibs daemon; its token, if it requires one, comes from PGDIBS_TOKEN")
    parser.addini("pgdibs_start", "auto or never: whether to start a daemon when none answers")
    parser.addini("pgdibs_timeout", "how many seconds to wait for a database at most")
    parser.addini("pgdibs_keep", "failed or never: whether to keep the databases of failed tests")
    parser.addini("pgdibs_guard", "error, warn or off: what happens to a connection to a database that was not leased")
    parser.addini(
        "pgdibs_allow",
        "databases that tests may connect to although they were not leased, as host:port/database; each part may contain the "
        "wildcards * and ?",
        type="args",
    )
    parser.addini(
        "pgdibs_env",
        "variables to set before conftest.py is imported: DATABASE_URL; DATABASE_URL=postgresql+asyncpg:// to say which driver "
        "it names; ANALYTICS_URL=analytics for another alias; DB_HOST=default.host for a part (host, port, "
        "user, password, database); PGHOST and its like are known by name, and PG* is all five of them. Without this line and "
        "without Django: DATABASE_URL, and TEST_DATABASE_URL where it is in use. Empty: none",
        type="args",
    )
    parser.addini(
        "pgdibs_aliases",
        "more databases for each process: analytics, or analytics=myapp_analytics_test to take it from a pool of its own. "
        "An alias that pgdibs_env names is declared here, unless it is Django's",
        type="args",
    )
    parser.addini(
        "pgdibs_fingerprint",
        "globs for all files that define the schema, relative to the directory of the ini file; ../../db/*.sql leads out of it. "
        "The plugin builds a new template when one of the files, pgdibs_build or pgdibs_env changes. Without it the daemon has "
        "to build the template itself",
        type="args",
    )
    parser.addini(
        "pgdibs_fingerprint_env",
        "variables that the build reads, as in SEED_SIZE: the plugin builds a new template when the value of one changes",
        type="args",
    )
    parser.addini(
        "pgdibs_build",
        "the command that creates the schema in the database that DATABASE_URL (and pgdibs_env) names; it runs in the directory "
        "of the ini file",
    )
    parser.addini(
        "pgdibs_template_cache",
        "a folder for templates as files, relative to the directory of the ini file (PGDIBS_TEMPLATE_CACHE): a template that the "
        "daemon does not have comes from there, and one that this run has built goes there. For CI jobs on machines of their own",
    )
    parser.addini(
        "pgdibs_login",
        "what the logins of the pools may do beyond their own database: plain, createdb or superuser; at most the daemon's "
        "max_login. Without it the pools keep what they have",
    )
    parser.addini("pgdibs_tmpdir", "whether each process gets a TMPDIR of its own", type="bool", default=False)


def has_settings(config: pytest.Config) -> bool:
    """Whether the ini file, or `-o`, has a setting whose name starts with `pgdibs`."""
    # Not `pgdibs.plugin.ini.given`, which would be loaded by every pytest. pytest 9.1 warns about the public name.
    in_file = config._inicfg if hasattr(config, "_inicfg") else config.inicfg
    names = [*in_file, *(getattr(config.known_args_namespace, "override_ini", None) or ())]
    return any(name[:6].lower() == "pgdibs" for name in names)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, Any, None]:
    """Set up this process before pytest imports conftest.py. A wrapper, so that it runs before pytest-django."""
    if early_config.known_args_namespace.pgdibs_pool or os.environ.get("PGDIBS_POOL") or "PGDIBS_PLUGIN_STATE" in os.environ:
        is_configured = True
    else:
        try:
            is_configured = bool(early_config.getini("pgdibs_pool"))
        except (TypeError, pytest.UsageError) as error:
            raise pytest.UsageError(f"pgdibs: pgdibs_pool in the ini file: {error}") from error
    if is_configured:
        from pgdibs.plugin.configure import configure

        configure(early_config, LOADED_AT)
    elif early_config.known_args_namespace.pgdibs_report:
        raise pytest.UsageError(
            "pgdibs: --pgdibs-report needs a pool: set pgdibs_pool in the ini file, PGDIBS_POOL or --pgdibs-pool"
        )
    elif has_settings(early_config) and early_config.known_args_namespace.pgdibs_mode != "off":
        from pgdibs.plugin.ini import missing_pool

        sentences = missing_pool(early_config)
        if sentences and not early_config.known_args_namespace.help:
            raise pytest.UsageError(*sentences)
    django = early_config.pluginmanager.get_plugin("pgdibs-django")
    with django.setting_variables_unavailable(early_config) if django is not None else contextlib.nullcontext():
        outcome = yield
    guard_hooks = early_config.pluginmanager.get_plugin("pgdibs-connection-guard")
    if guard_hooks is not None:
        guard_hooks.after_conftests(outcome)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, also without a pool, so that `--strict-markers` accepts it; refuse unknown settings of pgdibs.

    Refuse them also without a pool, because the misspelt setting may be the pool; not earlier, because conftest.py may register
    settings. A worker and a process that builds a template have the settings of another process.
    """
    config.addinivalue_line("markers", 'pgdibs(reset="before"): give the test a clean database, by a reset before it')
    has_settings_of_another = hasattr(config, "workerinput") or config.pluginmanager.hasplugin("pgdibs-builder")
    if has_settings(config) and not (has_settings_of_another or config.option.help):
        from pgdibs.plugin.ini import unknown_settings

        unknown = unknown_settings(config)
        if unknown:
            raise pytest.UsageError(*unknown)


@pytest.fixture(scope="session")
def pgdibs_leases(request: pytest.FixtureRequest) -> dict[str, Lease]:
    """All leases of this process by alias, as `pgdibs_leases["audit"].url`. A reset replaces the databases of all of them."""
    from pgdibs.plugin.failures import obtain_or_stop

    return dict(obtain_or_stop(_databases(request), request.session))


@pytest.fixture(scope="session")
def pgdibs_lease(pgdibs_leases: dict[str, Lease]) -> Lease:
    """The lease of this process: `.url`, `.database`, `.slot`, `.reset()`, `.url_for("postgresql+asyncpg")`."""
    return pgdibs_leases["default"]


@pytest.fixture(scope="session")
def pgdibs_url(pgdibs_lease: Lease) -> str:
    """The URL of the database of this process, which all its tests share."""
    return pgdibs_lease.url


@pytest.fixture
def pgdibs_fresh_url(request: pytest.FixtureRequest, pgdibs_lease: Lease) -> Iterator[str]:
    """The URL of a clean database: a reset before this test, unless no test has run since the last reset, and one after it."""
    databases = _databases(request)
    databases.reset_unless_clean()
    yield pgdibs_lease.url
    databases.needs_reset = True


def _databases(request: pytest.FixtureRequest) -> Databases:
    from pgdibs.plugin.databases import databases_of

    databases = databases_of(request.config)
    if databases is None and request.config.option.pgdibs_mode == "off":
        pytest.fail("pgdibs: this needs a lease, and with --pgdibs=off there is none", pytrace=False)
    if databases is None:
        pytest.fail("pgdibs: this needs a pool: set pgdibs_pool in the ini file, PGDIBS_POOL or --pgdibs-pool", pytrace=False)
    return databases
