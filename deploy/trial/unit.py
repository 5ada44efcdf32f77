"""The systemd unit, under a real systemd in a container of its own."""

from __future__ import annotations

import time
from pathlib import Path

from docker import BUILD_SECONDS, container, docker, until
from transcript import Transcript, check

NAME = "pgdibs-trial-systemd"
IMAGE = "pgdibs-trial/systemd"
# Not --privileged, which asks for every capability of the kernel, also those that this machine may not have itself.
RIGHTS = ("SYS_ADMIN", "SYS_PTRACE", "SYS_NICE", "NET_ADMIN", "DAC_READ_SEARCH", "AUDIT_CONTROL", "SYSLOG")


def run(transcript: Transcript, program: Path) -> None:
    """Installed by the lines at the unit's top, started, used, killed, restarted, stopped."""
    here = Path(__file__).resolve().parent
    base = "debian:bookworm-slim" if not docker("images", "--quiet", "pgdibs-trial/debian-12") else "pgdibs-trial/debian-12"
    command = ["buildx", "build", "--quiet", "--load", "--build-arg", f"DEBIAN_IMAGE={base}", "--tag", IMAGE]
    docker(*command, "--file", str(here / "bases/systemd.Dockerfile"), str(here / "bases"), within=BUILD_SECONDS)
    options = ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
    options += [word for right in RIGHTS for word in ("--cap-add", right)]
    options += ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    with container(*options, IMAGE, name=NAME):
        until(
            "systemd runs",
            lambda: inside("systemctl", "is-system-running", ok=False) in ("running", "degraded") or None,
            within=60,
        )
        docker("cp", str(program), f"{NAME}:/usr/local/bin/pgdibs")
        inside("mkdir", "-p", "/etc/sysusers.d")
        docker("cp", "deploy/systemd/pgdibs.sysusers", f"{NAME}:/etc/sysusers.d/pgdibs.conf")
        docker("cp", "deploy/systemd/pgdibs.service", f"{NAME}:/etc/systemd/system/pgdibs.service")
        inside("systemd-sysusers")
        inside("systemctl", "daemon-reload")
        started = time.monotonic()
        inside("systemctl", "enable", "--now", "pgdibs")
        took, version = time.monotonic() - started, inside("systemctl", "--version").splitlines()[0]
        transcript.add(f"     {version}; systemctl enable --now pgdibs: {took:.1f} s (Type=notify)")
        check("serving" in shown("StatusText"), f"the unit's status is `{shown('StatusText')}`")
        ready()
        until("the unit says so", lambda: "serving, on PostgreSQL" in shown("StatusText"))
        transcript.add(f"     its status: {shown('StatusText')}")
        exposure = inside("systemd-analyze", "security", "--no-pager", "pgdibs").splitlines()[-1].partition(": ")[2]
        transcript.add(f"     systemd-analyze security: {exposure.encode('ascii', 'ignore').decode().strip()}")
        lease = in_container_lease()

        inside("systemctl", "kill", "--signal", "SIGKILL", "pgdibs")
        until("it was started again", lambda: shown("NRestarts") == "1")
        ready()
        check(is_live(lease), "the lease ended with the killed daemon")
        transcript.add("     all its processes killed: started again, ready, the lease is live")

        inside("systemctl", "restart", "pgdibs")
        ready()
        check(is_live(lease), "the lease ended with the restart")
        started = time.monotonic()
        inside("systemctl", "stop", "pgdibs")
        took = time.monotonic() - started
        check(
            (shown("Result"), shown("ExecMainStatus")) == ("success", "0"),
            f"it ended with {shown('Result')}, {shown('ExecMainStatus')}",
        )
        left = inside("sh", "-c", "cat /proc/[0-9]*/comm | grep -E 'pgdibs|postgres' || true")
        check(left == "", f"these processes are left: {left}")
        transcript.add(f"     systemctl restart: the lease is live; stop: {took:.1f} s, success, no process of it is left")


def inside(*command: str, ok: bool = True) -> str:
    """A command in the container."""
    return docker("exec", NAME, *command, ok=ok)


def shown(name: str) -> str:
    """A property of the unit."""
    return inside("systemctl", "show", "--value", "--property", name, "pgdibs")


def ready() -> None:
    """`pgdibs healthcheck --ready` says so."""
    until("the daemon is ready", lambda: "is ready" in inside("pgdibs", "healthcheck", "--ready", ok=False))


def in_container_lease() -> str:
    """The name of a database that is leased for ten minutes, from a pool whose template is made by psql."""
    inside("pgdibs", "pool", "set", "unit_test", "--warm", "1")
    inside("pgdibs", "template", "build", "unit_test", "--fingerprint", "1", "--", "psql", "-c", "create table t ()")
    url = inside("sh", "-c", "pgdibs lease unit_test --ttl 600 2>/dev/null")
    return url.rsplit("/", 1)[1]


def is_live(database: str) -> bool:
    """Whether that lease is live still."""
    return database in inside("pgdibs", "psql", database, "--", "-At", "-c", "select current_database()", ok=False)
