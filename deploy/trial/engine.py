"""A Docker engine: the one that runs, or one that is installed and started for the trial, and leaves this machine as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docker import REPOSITORY, docker, run, until
from transcript import Failed, Transcript

PACKAGES = {"dockerd": "docker.io", "iptables": "iptables", "debootstrap": "debootstrap", "ss": "iproute2"}


def cache() -> Path:
    """Where this repository's scripts keep what they download."""
    default = "/var/cache/pgdibs-dev" if os.geteuid() == 0 else str(Path.home() / ".cache/pgdibs-dev")
    return Path(os.environ.get("PGDIBS_CACHE", default))


def answers() -> bool:
    """Whether an engine answers."""
    return shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0


def has_plugins() -> bool:
    """Whether compose and buildx are there."""
    return all(
        subprocess.run(["docker", plugin, "version"], capture_output=True).returncode == 0 for plugin in ("compose", "buildx")
    )


@contextmanager
def engine(transcript: Transcript) -> Iterator[bool]:
    """An engine that answers; the flag says whether it is the trial's own."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with tempfile.TemporaryDirectory(prefix="pgdibs-trial-engine-") as work:
        if answers():
            transcript.add("     an engine runs here and is used")
            use_plugins(Path(work))
            yield False
            return
        if os.geteuid() != 0:
            raise Failed("no Docker engine answers, and to start one takes root: start one, or run this as root")
        missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
        if missing:
            transcript.add(f"     installing {', '.join(missing)}")
            run("apt-get", "update", "-qq")
            run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, env={"DEBIAN_FRONTEND": "noninteractive"})
        with own_engine(Path(work)):
            transcript.add("     no engine ran here; one was started for the trial alone")
            use_plugins(Path(work))
            yield True


def use_plugins(work: Path) -> None:
    """Docker's own plugins when they are there, otherwise those of Debian 13 in a configuration directory of the trial's."""
    if has_plugins():
        return
    run(str(REPOSITORY / "scripts/install-tools.sh"), "docker-plugins")
    configuration = work / "config"
    configuration.mkdir()
    (configuration / "cli-plugins").symlink_to(cache() / "docker-plugins")
    os.environ["DOCKER_CONFIG"] = str(configuration)
    if not has_plugins():
        raise Failed("docker finds neither compose nor buildx: install docker-compose-plugin and docker-buildx-plugin")


@contextmanager
def own_engine(work: Path) -> Iterator[None]:
    """A dockerd on a socket and a data directory of its own. Its rules of the firewall and its bridge go with it."""
    data = cache() / "docker-data"
    data.mkdir(parents=True, exist_ok=True)
    forwards = Path("/proc/sys/net/ipv4/ip_forward")
    rules, forwarded = run("iptables-save"), forwards.read_text()
    os.environ["DOCKER_HOST"] = socket = f"unix://{work}/docker.sock"
    log = work / "log"
    with log.open("wb") as output:
        dockerd = subprocess.Popen(
            ["dockerd", f"--data-root={data}", f"--exec-root={work}/run", f"--pidfile={work}/pid", f"--host={socket}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def answers() -> bool:
            if dockerd.poll() is not None:
                raise Failed(f"dockerd ended with {dockerd.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
            return answers()

        until("dockerd answers", answers, within=60)
        yield
        running = docker("ps", "--quiet").split()
        if running:
            raise Failed(f"containers of the trial still run: {running}")
    finally:
        dockerd.send_signal(signal.SIGTERM)
        dockerd.wait(60)
        subprocess.run(["ip", "link", "delete", "docker0"], check=False, capture_output=True)
        subprocess.run(["iptables-restore"], input=f"{rules}\n", text=True, check=True)
        forwards.write_text(forwarded)
