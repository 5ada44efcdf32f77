"""One clean database per test process, taken before the application is imported. The rest is in tests/conftest.py.

The application builds its engine when it is imported, so `DATABASE_URL` has to be right before that. This file is the
first that pytest reads, it imports nothing of the application, and `pytest_addoption` is the first hook pytest calls in
it: by then pytest has parsed its command line, and no other conftest or test module has been imported.
"""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.pgdibs_lease import (
    Daemon,
    DaemonRefused,
    DaemonSilent,
    Lease,
    build_with_command,
    fingerprint_of,
    point_variables_at,
    template_ready,
)

ROOT = Path(__file__).parent
POOL = os.environ.get("SHOP_POOL") or "shop_test"
# With pgdibs.toml the daemon builds the template itself; then nothing is built here and no fingerprint is sent.
IS_BUILT_BY_DAEMON = os.environ.get("SHOP_TEMPLATE") == "daemon"
SCHEMA_INPUTS = ["alembic.ini", "alembic/env.py", "alembic/versions/*.py", "shop/models/*.py"]
CANNOT_CONNECT = "postgresql://only-test-processes-have-a-database@127.0.0.1:1/none"

daemon = Daemon()
lease_key = pytest.StashKey[Lease]()
run_key = pytest.StashKey[str]()
fingerprint = None if IS_BUILT_BY_DAEMON else fingerprint_of(ROOT, SCHEMA_INPUTS)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Take the lease, or see to it that this process cannot reach any database."""
    config: pytest.Config = pluginmanager.get_plugin("pytestconfig")  # type: ignore[assignment]  # always registered
    arguments = config.known_args_namespace
    os.environ.setdefault("DATABASE_URL", "postgresql+asyncpg://?prepared_statement_cache_size=100")
    os.environ.setdefault("TEST_DATABASE_URL", "postgresql+psycopg://?application_name=shop-worker")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None and (only_looks_around(arguments) or distributes(arguments)):
        point_variables_at(CANNOT_CONNECT, "DATABASE_URL", "TEST_DATABASE_URL")
        return
    run = as_uuid(os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex)
    try:
        ensure_template(worker or "main")
        lease = Lease.acquire(daemon, pool=POOL, fingerprint=fingerprint, run=run, worker=worker or "main")
    except (DaemonRefused, DaemonSilent, RuntimeError) as error:
        raise SystemExit(f"pgdibs: {error}") from error
    point_variables_at(lease.url, "DATABASE_URL", "TEST_DATABASE_URL")
    config.stash[lease_key] = lease
    config.stash[run_key] = run


def only_looks_around(arguments: argparse.Namespace) -> bool:
    """Whether pytest was asked for something that runs no test."""
    names = ("collectonly", "help", "version", "showfixtures", "show_fixtures_per_test", "markers")
    return any(getattr(arguments, name, False) for name in names)


def distributes(arguments: argparse.Namespace) -> bool:
    """Whether this is the controller of `-n`, which runs no test itself."""
    processes = getattr(arguments, "numprocesses", None)
    if processes in ("auto", "logical") and getattr(arguments, "usepdb", False):
        return False  # xdist stays in this process then
    return bool(processes) or bool(getattr(arguments, "tx", None))


def as_uuid(text: str) -> str:
    """A run is a UUID; `--testrunuid` may be anything."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def ensure_template(worker: str) -> None:
    """The schema that these sources make, built once for all processes and all later runs."""
    if fingerprint is not None:
        build = build_with_command([sys.executable, "-m", "alembic", "upgrade", "head"], ROOT)
        template_ready(daemon, POOL, fingerprint, build, worker)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """In the controller, before the first worker starts: build the template if need be and say how many are coming."""
    config.stash[run_key] = as_uuid(config.option.testrunuid)
    announcement = {"pool": POOL, "workers": len(specs)}
    if fingerprint is not None:
        announcement["fingerprint"] = fingerprint
    try:
        ensure_template("controller")
        daemon.call("PUT", f"/v1/runs/{config.stash[run_key]}", announcement)
    except (DaemonRefused, DaemonSilent, RuntimeError) as error:
        raise pytest.UsageError(f"pgdibs: {error}") from error


def pytest_configure(config: pytest.Config) -> None:
    """Choose the run's id where xdist would choose it later, so that the controller knows it too."""
    if hasattr(config.option, "testrunuid") and config.option.testrunuid is None:
        config.option.testrunuid = uuid.uuid4().hex


def pytest_report_header(config: pytest.Config) -> str | None:
    """Which database this is."""
    lease = config.stash.get(lease_key, None)
    return f"pgdibs: {lease.database} from {daemon.url}" if lease is not None else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """No test runs on a database that is no longer ours."""
    lease = item.config.stash[lease_key]
    if lease.lost_because is not None:
        pytest.fail(f"pgdibs: {lease.lost_because}", pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process gives back its database; the controller gives back whatever the run may still hold."""
    stash = session.config.stash
    if lease_key in stash:
        stash[lease_key].release()
    elif run_key in stash:
        try:
            daemon.call("DELETE", f"/v1/runs/{stash[run_key]}")
        except (DaemonRefused, DaemonSilent) as error:
            print(f"pgdibs: the run was not ended: {error}", file=sys.stderr)


@pytest.fixture(scope="session")
def lease(request: pytest.FixtureRequest) -> Lease:
    """The lease of this process."""
    return request.config.stash[lease_key]
