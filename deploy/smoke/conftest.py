"""What the smoke tests share: the docker command, waiting, signals, and containers that are removed after a test."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DAEMON, EMBEDDED, TESTS = "pgdibs", "pgdibs:postgres", "pgdibs-tests"
# A quarter of the example's tests.
SUITE = ["pytest", "-p", "no:cacheprovider", "-n", "4", "--splits", "4", "--group", "1"]
Start = Callable[..., str]


def run(*command: str, cwd: Path = REPOSITORY, **environment: str) -> str:
    """Runs a command. Returns its output; fails the test with the end of it unless the exit code is 0."""
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"`{' '.join(command)}` ended with {done.returncode}:\n{output[-3000:]}"
    return output.strip()


def docker(*arguments: str) -> str:
    return run("docker", *arguments)


def inspect(name: str, template: str) -> str:
    """Returns a field of a container or an image, as a template of Go."""
    return docker("inspect", "--format", template, name)


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 90) -> None:
    """Waits for a condition; fails the test at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        # The pause between two polls.
        time.sleep(0.1)


def wait_for_health(container: str, wanted: str = "healthy") -> None:
    """Waits until the health check of a container has that result."""
    wait_until(f"{container} is {wanted}", lambda: inspect(container, "{{.State.Health.Status}}") == wanted)


def wait_until_ready(container: str) -> None:
    """Waits until `pgdibs healthcheck --ready` in the container succeeds."""
    command = ["docker", "exec", container, "pgdibs", "healthcheck", "--ready"]
    wait_until(f"{container} is ready", lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0)


def stop(container: str) -> None:
    """Stops a container. Docker kills a process that ignores SIGTERM after 10 s, with exit code 137."""
    docker("stop", container)
    assert inspect(container, "{{.State.ExitCode}}") == "0"


def send_signal(container: str, signal: str) -> None:
    """Sends a signal to all processes of a container except PID 1, from a second container, so this needs no root."""
    sender = ["--pid", f"container:{container}", "--user", inspect(container, "{{.Config.User}}"), "--entrypoint", "bash"]
    docker("run", "--rm", *sender, EMBEDDED, "-c", f"kill -{signal} -1")


def columns(url: str) -> list[str]:
    """Returns the columns of the table that deploy/compose/migrations makes."""
    with psycopg.connect(url) as connection:
        return [column.name for column in connection.execute("select * from notes").description or []]


def free_port() -> int:
    """Returns a TCP port of this machine that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a container, `start(name, *arguments of docker run)`, by default in a network of the test. Returns its full name."""
    network, names = f"pgdibs-smoke-{os.getpid()}", []
    docker("network", "create", network)

    def start_container(name: str, *arguments: str) -> str:
        names.append(f"{network}-{name}")
        where = () if "--network" in arguments else ("--network", network, "--network-alias", name)
        docker("run", "--detach", "--name", names[-1], *where, *arguments)
        return names[-1]

    yield start_container
    for name in names:
        print(docker("logs", "--tail", "30", name), docker("rm", "--force", "--volumes", name))
    docker("network", "rm", network)
