"""The two images: their user, health check, stop signal and contents; and the image with a Postgres inside, used and stopped."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from conftest import DAEMON, EMBEDDED, REPOSITORY, Start, columns, free_port, inspect, send_signal, stop, wait_for_health

from pgdibs import Client


@pytest.mark.parametrize(("image", "user"), [(DAEMON, "65532:65532"), (EMBEDDED, "999:999")])
def test_image_runs_without_root_and_stops_on_sigterm(image: str, user: str) -> None:
    settings = inspect(image, "{{.Config.User}} {{.Config.StopSignal}} {{.Config.Entrypoint}} {{.Config.Healthcheck.Test}}")
    assert settings == f"{user} SIGTERM [pgdibs] [CMD pgdibs healthcheck]"


def test_daemon_image_has_no_shell() -> None:
    done = subprocess.run(["docker", "run", "--rm", "--entrypoint", "/bin/sh", DAEMON, "-c", "true"], capture_output=True)
    assert b"/bin/sh" in done.stderr


def test_daemon_without_token_refuses_to_listen_beyond_loopback() -> None:
    done = subprocess.run(["docker", "run", "--rm", DAEMON], capture_output=True, timeout=60)
    assert b"set a token" in done.stderr


def test_embedded_image_serves_survives_a_killed_postgres_and_stops(start: Start) -> None:
    http, postgres = free_port(), free_port()
    options = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--shm-size", "256m"]
    options += ["--tmpfs", "/var/lib/pgdibs", "--tmpfs", "/tmp", "--volume", f"{REPOSITORY}/deploy/compose:/etc/pgdibs:ro"]
    options += ["--publish", f"127.0.0.1:{http}:7432", "--publish", f"127.0.0.1:{postgres}:5432"]
    options += ["--env", "PGDIBS_TOKEN=smoke-test", "--env", f"PGDIBS_ADVERTISE=localhost:{postgres}"]
    name = start("embedded", *options, EMBEDDED)
    wait_for_health(name)
    client = Client(f"http://localhost:{http}", "smoke-test")
    with client.lease("app_test") as lease:
        assert "body" in columns(lease.url)
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects"):
        psycopg.connect(host="localhost", port=postgres, user="postgres", password="x", dbname="postgres")

    # The daemon is PID 1, so the signal reaches Postgres alone.
    send_signal(name, "KILL")
    assert "body" in columns(client.lease("app_test", heartbeat=False).url)
    stop(name)
