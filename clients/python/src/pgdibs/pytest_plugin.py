"""The pytest plugin's entry point: options, hooks, fixtures. It does nothing and loads nothing more until `pgdibs_pool` is set.

What the plugin does stands in `pgdibs.plugin`; this module is imported by every pytest of an environment that has pgdibs
installed, so it stays cheap.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from pgdibs.lease import Lease
    from pgdibs.plugin.databases import Databases

LOADED_AT = time.time()
"""When this process loaded the plugin, in seconds since the epoch; start-up is counted from here."""


class Absent(list[str]):
    """The value of a list in the ini file that is absent, and not empty."""


class Hooks:
    """Hooks that a project's conftest.py (or another plugin) may implement."""

    @pytest.hookspec(firstresult=True)
    def pytest_pgdibs_build_template(self, url: str, alias: str, config: pytest.Config) -> Any:
        """Make the schema in the empty database at `url`; called once per fingerprint, in a process of its own, whose
        variables of `pgdibs_env` are set to that database before conftest.py is imported. Return something that is not None
        to keep other implementations from being called.
        """

    @pytest.hookspec
    def pytest_pgdibs_aliases(self, config: pytest.Config, pool: str) -> Any:
        """More databases that each process needs, as strings like those of `pgdibs_aliases`; called once, before any lease.
        `pool` is the one of `pgdibs_pool`.
        """

    @pytest.hookspec
    def pytest_pgdibs_fingerprint(self, config: pytest.Config) -> Any:
        """What the schema depends on beside the files of `pgdibs_fingerprint`, as a string."""

    @pytest.hookspec
    def pytest_pgdibs_is_build_forced(self, config: pytest.Config) -> Any:
        """Whether to build the template although there is one with its fingerprint."""

    @pytest.hookspec
    def pytest_pgdibs_before_reset(self, config: pytest.Config) -> None:
        """Close connections: all databases of this process are about to be replaced by clean ones under the same URLs."""

    @pytest.hookspec
    def pytest_pgdibs_leased(self, config: pytest.Config, databases: Databases) -> None:
        """The leases of this process have come (`databases.leases`, by alias) and its variables are set."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Tell pytest of the hooks above."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options. A flag wins over a variable, a variable over the ini file, the file over the default."""
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
    parser.addini(
        "pgdibs_pool",
        "the pool that databases are leased from; a run with other settings of pgdibs and no pool is stopped, a project without "
        "any is left alone",
    )
    parser.addini("pgdibs_url", "the pgdibs daemon; its token, if it wants one, comes from PGDIBS_TOKEN")
    parser.addini("pgdibs_start", "auto or never: whether to start a daemon when none answers")
    parser.addini("pgdibs_timeout", "how many seconds to wait for a database at most")
    parser.addini("pgdibs_keep", "failed or never: whether to keep the databases of failed tests")
    parser.addini("pgdibs_guard", "error, warn or off: what happens to a connection to a database that was not leased")
    parser.addini(
        "pgdibs_allow",
        "databases that were not leased and may be connected to all the same, as host:port/database; each part may hold the "
        "wildcards * and ?",
        type="args",
    )
    parser.addini(
        "pgdibs_env",
        "variables to set before conftest.py is imported: DATABASE_URL; DATABASE_URL=postgresql+asyncpg:// to say which driver "
        "it names; ANALYTICS_URL=analytics for another alias; DB_HOST=default.host for a part (host, port, "
        "user, password, database); PGHOST and its like are known by name. Without this line and without Django: DATABASE_URL, "
        "and TEST_DATABASE_URL where it is in use. Empty: none",
        type="args",
        default=Absent(),
    )
    parser.addini(
        "pgdibs_aliases",
        "more databases for each process: analytics, or analytics=myapp_analytics_test to take it from a pool of its own. "
        "An alias that pgdibs_env names is declared here, unless it is Django's",
        type="args",
    )
    parser.addini(
        "pgdibs_fingerprint",
        "globs below the rootdir for all files that shape the schema; a new template is built when one of them, or "
        "pgdibs_build, changes. Without it the daemon has to build the template itself",
        type="args",
    )
    parser.addini("pgdibs_build", "the command that makes the schema in the database that DATABASE_URL (and pgdibs_env) names")
    parser.addini("pgdibs_tmpdir", "whether each process gets a TMPDIR of its own", type="bool", default=False)


def names_in_file(config: pytest.Config) -> Iterable[str]:
    """The names of all settings in the ini file, whoever registers them; from pytest 9 on those of `-o` too."""
    # pytest 9.1 warns about the public name.
    settings: Iterable[str] = config._inicfg if hasattr(config, "_inicfg") else config.inicfg
    return settings


def has_settings(config: pytest.Config) -> bool:
    """Whether the ini file, or `-o`, has a setting whose name begins like those of pgdibs."""
    names = [*names_in_file(config), *(getattr(config.known_args_namespace, "override_ini", None) or ())]
    return any(name[:6].lower() == "pgdibs" for name in names)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, Any, None]:
    """Before conftest.py and the application are imported. A wrapper, because it comes even before pytest-django."""
    if early_config.known_args_namespace.pgdibs_pool or os.environ.get("PGDIBS_POOL") or "PGDIBS_HANDOVER" in os.environ:
        is_wanted = True
    else:
        try:
            is_wanted = bool(early_config.getini("pgdibs_pool"))
        except (TypeError, pytest.UsageError) as error:
            raise pytest.UsageError(f"pgdibs: pgdibs_pool in the ini file: {error}") from error
    if is_wanted:
        from pgdibs.plugin.begin import begin

        begin(early_config)
    elif has_settings(early_config) and early_config.known_args_namespace.pgdibs_mode != "off":
        from pgdibs.plugin.ini import missing_pool

        sentences = missing_pool(early_config)
        if sentences and not early_config.known_args_namespace.help:
            raise pytest.UsageError(*sentences)
    django = early_config.pluginmanager.get_plugin("pgdibs-django")
    with django.setting_variables_unavailable(early_config) if django is not None else contextlib.nullcontext():
        outcome = yield
    guard_reports = early_config.pluginmanager.get_plugin("pgdibs-connection-guard")
    if guard_reports is not None:
        guard_reports.after_conftests(outcome)


def pytest_configure(config: pytest.Config) -> None:
    """The marker exists whether or not the plugin is asked to do something, so that `--strict-markers` is content.

    A setting that pgdibs does not have stops the run, also when no pool is set: the misspelt one may be the pool. Not before now,
    because conftest.py may register settings. A worker and a process that builds a template have the settings of another one.
    """
    config.addinivalue_line("markers", 'pgdibs(reset="before"): give the test a clean database, by a reset before it')
    has_those_of_another = hasattr(config, "workerinput") or config.pluginmanager.hasplugin("pgdibs-builder")
    if has_settings(config) and not (has_those_of_another or config.option.help):
        from pgdibs.plugin.ini import unknown_settings

        unknown = unknown_settings(config)
        if unknown:
            raise pytest.UsageError(*unknown)


@pytest.fixture(scope="session")
def pgdibs_lease(request: pytest.FixtureRequest) -> Lease:
    """The lease of this process: `.url`, `.database`, `.slot`, `.reset()`, `.url_for("postgresql+asyncpg")`."""
    from pgdibs.plugin.failures import obtain_or_stop

    return obtain_or_stop(_databases(request), request.session)["default"]


@pytest.fixture(scope="session")
def pgdibs_url(pgdibs_lease: Lease) -> str:
    """The URL of this process's database, which all its tests share."""
    return pgdibs_lease.url


@pytest.fixture
def pgdibs_fresh_url(request: pytest.FixtureRequest, pgdibs_lease: Lease) -> Iterator[str]:
    """The URL of a clean database: reset before this test unless nothing has run since the last reset, and after it again."""
    databases = _databases(request)
    databases.reset_unless_clean()
    yield pgdibs_lease.url
    databases.is_reset_wanted = True


def _databases(request: pytest.FixtureRequest) -> Databases:
    from pgdibs.plugin import databases_of

    databases = databases_of(request.config)
    if databases is None and request.config.option.pgdibs_mode == "off":
        pytest.fail("pgdibs: this needs a lease, and with --pgdibs=off there is none", pytrace=False)
    if databases is None:
        pytest.fail("pgdibs: this needs a pool: set pgdibs_pool in the ini file, PGDIBS_POOL or --pgdibs-pool", pytrace=False)
    return databases
