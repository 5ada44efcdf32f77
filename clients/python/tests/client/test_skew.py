"""Versions that differ: the client of commit 27d753a with today's daemon, and today's client with an older daemon.

The old client is an archive in the repository, because a shallow clone and a source archive have no history to take it
from. It was made with `git archive 27d753a clients/python/src/pgdibs | xz -9e`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from daemon_process import postgres_programs
from older_daemon import OlderDaemon
from scripted import Reply, Scripted
from support import REPOSITORY, SOURCES, Daemon, finished, python

import pgdibs
from pgdibs import errors, skew

OLD_COMMIT = "27d753a02cc7be07e5d8277f8e14d8ffb71a09ff"
OLD_CLIENT = Path(__file__).parent / "fixtures" / f"client-{OLD_COMMIT[:7]}.tar.xz"

USE_OF_CLIENT = """
import subprocess, sys
import pgdibs

url, pool, psql = sys.argv[1:]

def sql(target, statement):
    command = [psql, "-X", "-qAt", "-v", "ON_ERROR_STOP=1", target, "-c", statement]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

with pgdibs.Client(url) as client:
    client.put_pool(pool, warm=0, spares=1, max=4)
    assert not client.ensure_template(pool, "v1", lambda target: sql(target, "create table notes (id int)")).reused
    assert client.ensure_template(pool, "v1", print).reused
    client.announce(pool, pool, 1, fingerprint="v1")
    with client.lease(pool, fingerprint="v1", run=pool, worker="gw0", holder="me") as lease:
        sql(lease.url, "insert into notes values (1)")
        lease.renew()
        lease.reset()
        assert (lease.generation, sql(lease.url, "select count(*) from notes")) == (2, "0")
        assert [live["id"] for live in client.leases(run=pool)] == [lease.id]
    client.batch([pgdibs.LeaseRequest(pool, run=pool, worker="gw1", alias=alias) for alias in ("a", "b")])
    assert client.end_run(pool) == 2
    assert client.status()["daemon"]["ready"]
    client.call("DELETE", f"/v1/pools/{pool}?force=true")
print(pgdibs.__file__)
"""

PROJECT = {
    "pytest.ini": """[pytest]
pgdibs_pool = {pool}
pgdibs_env = DATABASE_URL
pgdibs_fingerprint = schema.sql
pgdibs_build = {psql} -qf schema.sql
""",
    "schema.sql": "create table notes (id int);\n",
    "test_notes.py": """import os, subprocess
import pytest
import pgdibs.pytest_plugin

def sql(statement):
    command = ["{psql}", "-X", "-qAt", "-v", "ON_ERROR_STOP=1", os.environ["DATABASE_URL"], "-c", statement]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

@pytest.mark.pgdibs(reset="before")
@pytest.mark.parametrize("number", range(4))
def test_note(number):
    assert sql("select count(*) from notes") == "0"
    sql("insert into notes values (1)")

def test_package():
    assert pgdibs.pytest_plugin.__file__.startswith("{sources}")
""",
}


@pytest.fixture(scope="session")
def old_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the package of the old client."""
    directory = tmp_path_factory.mktemp("old-client")
    with tarfile.open(OLD_CLIENT) as archive:
        archive.extractall(directory, filter="data")
        # `git archive` writes the commit into the archive.
        assert archive.pax_headers["comment"] == OLD_COMMIT
    return directory / "clients" / "python" / "src"


@pytest.fixture
def older_daemon(daemon: Daemon) -> Iterator[OlderDaemon]:
    """The daemon of these tests, as if it was older than the client."""
    older = OlderDaemon(daemon.url)
    yield older
    older.close()


@pytest.fixture
def new_pool() -> str:
    """The name of a pool that does not exist."""
    return f"s{uuid.uuid4().hex[:8]}"


def use_client(url: str, pool: str, sources: Path) -> None:
    """Make all usual calls with the client in this directory."""
    process = python(USE_OF_CLIENT, url, pool, f"{postgres_programs()}/psql", PYTHONPATH=str(sources))
    status, output, error = finished(process)
    assert (status, error) == (0, ""), output + error
    assert output.startswith(str(sources))


def run_pytest(directory: Path, url: str, pool: str, sources: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests of a small project on two workers with the plugin in this directory."""
    psql = f"{postgres_programs()}/psql"
    for name, text in PROJECT.items():
        (directory / name).write_text(text.replace("{pool}", pool).replace("{psql}", psql).replace("{sources}", str(sources)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PG"))}
    environment.update(PYTHONPATH=str(sources), PGDIBS_URL=url, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    plugins = ["-p", "xdist", "-p", "pgdibs.pytest_plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plugins, "-n", "2", "-q"]
    return subprocess.run(command, cwd=directory, env=environment, timeout=120, capture_output=True, text=True, check=False)


def use_plugin(directory: Path, url: str, pool: str, sources: Path) -> str:
    """Run the tests of the project, which pass and leave no lease. Returns what pytest printed."""
    done = run_pytest(directory, url, pool, sources)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr
    client = pgdibs.Client(url)
    assert client.leases(pool=pool) == []
    client.call("DELETE", f"/v1/pools/{pool}?force=true")
    return done.stdout + done.stderr


def test_old_client_works_with_todays_daemon(daemon: Daemon, new_pool: str, old_sources: Path) -> None:
    use_client(daemon.url, new_pool, old_sources)


def test_old_plugin_works_with_todays_daemon(daemon: Daemon, new_pool: str, old_sources: Path, tmp_path: Path) -> None:
    use_plugin(tmp_path, daemon.url, new_pool, old_sources)


def test_client_works_with_older_daemon(older_daemon: OlderDaemon, new_pool: str) -> None:
    older_daemon.unknown = set(skew.OPTIONAL_FIELDS)
    use_client(older_daemon.url, new_pool, SOURCES)
    # Two template requests, a lease and a batch.
    assert older_daemon.refused == ["holder"] * 4


def test_plugin_works_with_older_daemon(older_daemon: OlderDaemon, new_pool: str, tmp_path: Path) -> None:
    older_daemon.unknown, older_daemon.missing = {"fingerprint_inputs"}, {"/report"}
    output = use_plugin(tmp_path, older_daemon.url, new_pool, SOURCES)
    # The requests for the template, before and after the pool is made, and the report, whose answer the plugin does not read.
    assert older_daemon.refused == ["fingerprint_inputs"] * 3
    assert not re.search("404|no route|unknown field|older", output), output


def test_needed_field_gives_sentence_with_both_versions(older_daemon: OlderDaemon, client: pgdibs.Client, new_pool: str) -> None:
    older_daemon.unknown = {"strategy"}
    with pytest.raises(errors.InvalidRequest) as raised:
        pgdibs.Client(older_daemon.url).put_pool(new_pool, strategy="wal_log")
    assert str(raised.value) == (
        f"pgdibs client {skew.client_version()} (API level {skew.API_LEVEL}) talks to pgdibs daemon "
        f"{client.status()['daemon']['version']} (API level 0), which does not know `strategy`; "
        "upgrade the daemon or leave out `strategy`"
    )
    assert raised.value.code == "invalid_request" and "expected one of `pool`" in raised.value.detail


def test_plugin_gives_sentence_with_both_versions(older_daemon: OlderDaemon, new_pool: str, tmp_path: Path) -> None:
    older_daemon.unknown = {"workers"}
    done = run_pytest(tmp_path, older_daemon.url, new_pool, SOURCES)
    assert done.returncode == 4 and "Traceback" not in done.stdout + done.stderr
    sentence = r"ERROR: pgdibs: pgdibs client .* talks to .* \(API level 0\), which does not know `workers`; upgrade .*"
    assert [line for line in done.stderr.splitlines() if re.fullmatch(sentence, line)], done.stdout + done.stderr


def test_missing_route_gives_sentence_with_both_versions(older_daemon: OlderDaemon) -> None:
    client = pgdibs.Client(older_daemon.url)
    with pytest.raises(errors.NotFound, match=r"\(API level 0\), which does not know `GET /v1/news`; upgrade the daemon$"):
        client.call("GET", "/v1/news?since=1")
    with pytest.raises(errors.MethodNotAllowed, match=r"which does not know `PUT /v1/status`; upgrade the daemon$"):
        client.call("PUT", "/v1/status")


def test_version_of_daemon_may_stay_unknown(scripted: Scripted) -> None:
    scripted.replies = [Reply(404, {"code": "not_found", "detail": "no route"}, api_level=None), Reply(500, text="down")]
    with pytest.raises(errors.NotFound, match=r"talks to pgdibs daemon of an unknown version \(API level 0\)"):
        pgdibs.Client(scripted.url).call("GET", "/v1/news")


def test_daemon_of_same_level_gives_its_own_sentence(client: pgdibs.Client, new_pool: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^wram: unknown field `wram`, expected one of"):
        client.put_pool(new_pool, wram=1)
    with pytest.raises(errors.NotFound, match=r"^there is no route /v1/news"):
        client.call("GET", "/v1/news")


def test_level_of_client_is_that_of_daemon(client: pgdibs.Client) -> None:
    assert client.ask("GET", "/livez").api_level == skew.API_LEVEL
    assert client.ask("GET", "/v1/news").api_level == skew.API_LEVEL
    assert client.status()["daemon"]["api_level"] == skew.API_LEVEL


def test_answers_of_newer_daemon_are_read(scripted: Scripted) -> None:
    granted = json.loads((REPOSITORY / "api" / "lease_granted.json").read_text())["body"]
    newer = {**granted, "state": "newer", "more": {"than": ["this"]}}
    unknown = {"code": "invalid_request", "detail": "news: unknown field `news`"}
    replies = [Reply(201, newer), Reply(200, {**newer, "generation": 2}), Reply(204), Reply(400, unknown)]
    scripted.replies = [replace(reply, api_level=skew.API_LEVEL + 1) for reply in replies]
    client = pgdibs.Client(scripted.url)
    with client.lease("app", heartbeat=False) as lease:
        lease.reset()
        assert (lease.database, lease.generation) == (granted["database"], 2)
    with pytest.raises(errors.InvalidRequest, match=r"^news: unknown field"):
        client.put_pool("app", news=1)
