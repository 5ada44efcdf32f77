"""The two images: built, measured, and looked at from outside."""

from __future__ import annotations

import subprocess
import time

from docker import BUILD_SECONDS, docker, inspect, run, size_of
from transcript import Transcript, check

DAEMON = "pgdibs"
EMBEDDED = "pgdibs:postgres"


def build(transcript: Transcript, bases: dict[str, str]) -> None:
    """Both targets of deploy/Dockerfile, with the caches of its mounts."""
    arguments = [word for name, image in bases.items() if name != "PYTHON_IMAGE" for word in ("--build-arg", f"{name}={image}")]
    for tag, target in ((DAEMON, "daemon"), (EMBEDDED, "embedded")):
        started = time.monotonic()
        command = ["buildx", "build", "--quiet", "--load", *arguments, "--file", "deploy/Dockerfile"]
        docker(*command, "--target", target, "--tag", tag, ".", within=BUILD_SECONDS)
        transcript.add(f"     {tag} (target {target}): built in {time.monotonic() - started:.0f} s, {size_of(tag)}")


def inspect_images(transcript: Transcript) -> None:
    """What an image says of itself, and that the small one holds no shell."""
    for image, user, ports in ((DAEMON, "65532:65532", {"7432/tcp"}), (EMBEDDED, "999:999", {"7432/tcp", "5432/tcp"})):
        config = inspect(image)["Config"]
        check(config["User"] == user, f"{image} runs as `{config['User']}`, not as {user}")
        check(
            config["Healthcheck"]["Test"] == ["CMD", "pgdibs", "healthcheck"],
            f"the health check of {image}: {config['Healthcheck']}",
        )
        check(config["StopSignal"] == "SIGTERM", f"{image} is stopped by {config['StopSignal']}")
        check(config["Entrypoint"] == ["pgdibs"], f"the entry point of {image}: {config['Entrypoint']}")
        check(set(config["ExposedPorts"]) <= ports, f"{image} exposes {set(config['ExposedPorts'])}")
    shell = subprocess.run(["docker", "run", "--rm", "--entrypoint", "/bin/sh", DAEMON, "-c", "true"], capture_output=True)
    check(shell.returncode != 0, f"{DAEMON} has a shell")
    version = docker("run", "--rm", "--read-only", DAEMON, "--version")
    client = docker("run", "--rm", "--read-only", "--entrypoint", psql_of(DAEMON), DAEMON, "--version")
    refused = run("docker", "run", "--rm", DAEMON, ok=False)
    check("set a token" in refused, f"without a token it should refuse to listen on 0.0.0.0, and said: {refused}")
    transcript.add(f"     {version}, {client}; users 65532 and 999, no shell in {DAEMON}, exec-form health check, SIGTERM")
    transcript.add("     without a token it refuses to listen beyond loopback")


def psql_of(image: str) -> str:
    """Where psql is in an image without a shell."""
    container = docker("create", image)
    try:
        listed = subprocess.run(
            f"docker export {container} | tar -t", shell=True, check=True, capture_output=True, text=True
        ).stdout
    finally:
        docker("rm", container)
    return next(f"/{name}" for name in listed.splitlines() if name.endswith("/bin/psql"))
