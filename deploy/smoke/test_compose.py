"""The stack of docker-compose.yml: used from this machine and in its network; its containers killed, frozen and stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import conftest as smoke
import pytest

from pgdibs import Client
from pgdibs.errors import LeaseNotFound

PROJECT = "pgdibs-smoke"
DAEMON, SERVER = f"{PROJECT}-pgdibs-1", f"{PROJECT}-postgres-1"


class Stack(NamedTuple):
    client: Client
    migrations: Path
    compose: Callable[..., str]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, started as deploy/README.md says, with its own token, ports and migrations; `down` leaves nothing behind."""
    work, http = tmp_path_factory.mktemp("stack"), smoke.free_port()
    migrations = shutil.copytree(smoke.REPOSITORY / "deploy/compose/migrations", work / "migrations")
    values = {"PGDIBS_TOKEN": "smoke-test", "PGDIBS_PORT": http, "POSTGRES_PORT": smoke.free_port(), "MIGRATIONS": migrations}
    example = (smoke.REPOSITORY / ".env.example").read_text()
    assert all(f"\n{name}=" in example for name in values), ".env.example names each variable"
    (work / "env").write_text(example + "".join(f"{name}={value}\n" for name, value in values.items()))
    compose = partial(smoke.docker, "compose", "--project-name", PROJECT, "--env-file", str(work / "env"))
    try:
        compose("up", "--build", "--wait")
        yield Stack(Client(f"http://localhost:{http}", "smoke-test"), migrations, compose)
        print(compose("logs", "--tail", "40"))
    finally:
        compose("--profile", "test", "down")
    for kind in ("container", "network", "volume"):
        assert smoke.docker(kind, "ls", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}") == "", kind


def test_daemon_has_no_rights_and_ports_are_on_loopback(stack: Stack) -> None:
    rights = "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}"
    assert smoke.inspect(DAEMON, rights) == "65532:65532 true [ALL] [no-new-privileges:true]"
    for name in (DAEMON, SERVER):
        assert smoke.inspect(name, "{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}}{{end}}{{end}}") == "127.0.0.1"


def test_lease_on_this_machine_follows_the_migrations(stack: Stack) -> None:
    with stack.client.lease("app_test") as lease:
        assert smoke.columns(lease.url) == ["id", "body", "written_at"]
    (stack.migrations / "0002_author.sql").write_text("alter table notes add column author text;\n")
    with stack.client.lease("app_test") as lease:
        assert "author" in smoke.columns(lease.url)


def test_suite_passes_inside_the_network(stack: Stack) -> None:
    assert " passed" in stack.compose("run", "--rm", "--build", "tests", *smoke.SUITE)


def test_killed_daemon_restarts_and_keeps_its_lease(stack: Stack) -> None:
    with stack.client.lease("app_test") as lease:
        smoke.send_signal(DAEMON, "KILL")
        smoke.wait_until("Docker restarts the daemon", lambda: smoke.inspect(DAEMON, "{{.RestartCount}}") == "1")
        smoke.wait_for_health(DAEMON)
        lease.renew()


def test_frozen_daemon_is_unhealthy_until_it_continues(stack: Stack) -> None:
    with stack.client.lease("app_test") as lease:
        smoke.send_signal(DAEMON, "STOP")
        smoke.wait_for_health(DAEMON, "unhealthy")
        smoke.send_signal(DAEMON, "CONT")
        smoke.wait_for_health(DAEMON)
        lease.renew()


def test_stopped_daemon_ends_in_time_and_keeps_its_lease(stack: Stack) -> None:
    with stack.client.lease("app_test") as lease:
        smoke.stop(DAEMON)
        stack.compose("up", "--wait", "pgdibs")
        lease.renew()


def test_restarted_postgres_ends_leases_and_serves_again(stack: Stack) -> None:
    lease = stack.client.lease("app_test", heartbeat=False)
    stack.compose("restart", "postgres")
    smoke.wait_for_health(SERVER)
    smoke.wait_until_ready(DAEMON)
    with pytest.raises(LeaseNotFound):
        lease.renew()
    with stack.client.lease("app_test") as lease:
        assert "author" in smoke.columns(lease.url)
