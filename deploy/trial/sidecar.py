"""The image with a Postgres inside: alone with its ports published, and as the pod of the Kubernetes Job."""

from __future__ import annotations

import io
import os
import secrets
import signal
import time
from typing import Any, Optional

import psycopg
import suites
from docker import REPOSITORY, HealthWatch, container, docker, inspect, listening, pid_of, published, run, until
from engine import cache
from images import EMBEDDED
from ruamel.yaml import YAML
from transcript import Transcript, check

from pgdibs import Client, Unreachable

NAME = "pgdibs-trial-sidecar"


def alone(transcript: Transcript, ports: tuple[int, int]) -> None:
    """One container, its data on a tmpfs, used from this machine."""
    token = secrets.token_hex(24)
    url, before = f"http://localhost:{ports[0]}", published()
    options = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--shm-size", "256m"]
    options += ["--tmpfs", "/var/lib/pgdibs", "--tmpfs", "/tmp"]
    options += ["--publish", f"127.0.0.1:{ports[0]}:7432", "--publish", f"127.0.0.1:{ports[1]}:5432"]
    options += ["--env", f"PGDIBS_TOKEN={token}", "--env", f"PGDIBS_ADVERTISE=localhost:{ports[1]}"]
    with container(*options, EMBEDDED, name=NAME):
        watch, started = HealthWatch(NAME), time.monotonic()
        watch.until("healthy")
        transcript.add(
            f"     {EMBEDDED}, read-only, data on tmpfs: {' → '.join(watch.seen)} in {time.monotonic() - started:.1f} s"
        )
        meant = {f"127.0.0.1:{port}" for port in ports}
        check(published() - before == meant, f"Docker listens on {published() - before}, and {meant} is meant")
        inside = {where.rsplit(":", 1)[1] for where in listening(pid_of(NAME, "pgdibs"))}
        check(inside == {"7432", "5432"}, f"in the container {inside} listen")
        client = Client(url, token)
        until("it is ready", lambda: readiness(client) == 200)
        check_superuser(ports[1])
        transcript.add(
            "     listens: 7432 and 5432, published on loopback; from outside the superuser is refused before any password"
        )
        transcript.add(f"     on this machine, pytest -n 4: {suites.passes(url, token, '-n', '4')}")

        # SIGKILL of Postgres alone: the daemon starts it again, and what was committed before is there.
        os.kill(pid_of(NAME, "postgres"), signal.SIGKILL)
        until("the daemon has started Postgres again", lambda: readiness(client) == 503, within=10)
        until("it is ready again", lambda: readiness(client) == 200)
        check(watch.shown() == "starting → healthy", f"the container's health went {watch.seen}")
        line = suites.passes(url, token, "-n", "2")
        transcript.add(f"     its Postgres killed: /readyz 503 → 200, the container healthy; the next run: {line}")

        with client.lease("shop_test") as lease:
            started = time.monotonic()
            docker("stop", NAME)
            took, state = time.monotonic() - started, inspect(NAME)["State"]
            check(state["ExitCode"] == 0 and took < 9, f"it ended with {state['ExitCode']} after {took:.1f} s")
            transcript.add(f"     docker stop with a live lease: {took:.1f} s, exit code 0")
            docker("start", NAME)
            HealthWatch(NAME).until("healthy")
            until("it is ready", lambda: readiness(client) == 200)
            check(client.ask("GET", f"/v1/leases/{lease.id}").status == 404, "a tmpfs outlived its container's stop")
        transcript.add("     started again on an empty tmpfs: healthy, ready")


def readiness(client: Client) -> Optional[int]:
    """The status of `/readyz`; none in the moment in which Docker has published a port and does not reach the container yet."""
    try:
        return client.ask("GET", "/readyz").status
    except Unreachable:
        return None


def check_superuser(port: int) -> None:
    """Refused by the access rules: no password is even asked for."""
    try:
        psycopg.connect(host="localhost", port=port, user="postgres", password="x", dbname="postgres").close()
        check(False, "the superuser gets in from outside")
    except psycopg.OperationalError as error:
        check("pg_hba.conf rejects" in str(error), f"the superuser from outside: {error}")


def pod(transcript: Transcript) -> None:
    """The Job of deploy/kubernetes/sidecar, read from what kustomize makes of it: each container as Docker can run it."""
    kustomize = cache() / "kustomize/usr/bin/kustomize"
    run(str(REPOSITORY / "scripts/install-tools.sh"), "deploy")
    job = YAML(typ="safe").load(io.StringIO(run(str(kustomize), "build", str(REPOSITORY / "deploy/kubernetes/sidecar"))))
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume["emptyDir"] for volume in spec["volumes"]}
    sidecar, tests = spec["initContainers"][0], spec["containers"][0]
    transcript.not_run(
        "a cluster", "no registry of packages has one; the Job's pod is run by Docker, in one network, as its file says"
    )
    with container(
        "--entrypoint", "/bin/sleep", "pgdibs-trial/debian" if has_stand_ins() else "postgres:17", "600", name="pgdibs-trial-pod"
    ):
        network = "container:pgdibs-trial-pod"
        with container("--network", network, *as_docker(sidecar, volumes), EMBEDDED, name=NAME):
            started, probe = time.monotonic(), sidecar["startupProbe"]["exec"]["command"]
            until("the startup probe succeeds", lambda: succeeds(NAME, probe), within=60)
            transcript.add(
                f"     sidecar {sidecar['image']}: `{' '.join(probe)}` succeeds after {time.monotonic() - started:.1f} s"
            )
            inside = listening(pid_of(NAME, "pgdibs"))
            check(inside == {"127.0.0.1:7432", "127.0.0.1:5432"}, f"in the pod {inside} listen")
            output = docker(
                "run", "--rm", "--network", network, *as_docker(tests, volumes), "pgdibs-tests", *tests["command"], within=600
            )
            transcript.add(f"     {tests['name']}: {suites.last_line(output)}")
            started = time.monotonic()
            docker("stop", "--time", str(spec["terminationGracePeriodSeconds"]), NAME)
            check(inspect(NAME)["State"]["ExitCode"] == 0, f"the sidecar ended with {inspect(NAME)['State']['ExitCode']}")
            took = time.monotonic() - started
            transcript.add(f"     the tests have ended, the sidecar is stopped: {took:.1f} s, exit code 0")
            transcript.add("     it listened on the pod's loopback alone")


def as_docker(part: dict[str, Any], volumes: dict[str, Any]) -> list[str]:
    """One container of the pod as arguments of `docker run`; a field that is not known here is a failure, not left out."""
    known = {
        "name",
        "image",
        "restartPolicy",
        "env",
        "startupProbe",
        "livenessProbe",
        "resources",
        "securityContext",
        "volumeMounts",
        "command",
    }
    check(set(part) <= known, f"fields of {part['name']} that the trial does not know: {set(part) - known}")
    security = part["securityContext"]
    check(security["readOnlyRootFilesystem"] is True and security["capabilities"] == {"drop": ["ALL"]}, f"{security}")
    options = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    options += [
        "--user",
        f"{security['runAsUser']}:{security['runAsGroup']}",
        "--memory",
        megabytes(part["resources"]["limits"]["memory"]),
    ]
    for variable in part.get("env", []):
        options += ["--env", f"{variable['name']}={variable['value']}"]
    for mount in part["volumeMounts"]:
        volume = volumes[mount["name"]]
        size = f",size={megabytes(volume['sizeLimit'])}" if "sizeLimit" in volume else ""
        # As the kubelet makes them: open to everybody in the pod.
        options += ["--tmpfs", f"{mount['mountPath']}:mode=0777{size}"]
    return options


def megabytes(quantity: str) -> str:
    """`2Gi` for Docker."""
    return quantity.replace("Gi", "g").replace("Mi", "m")


def succeeds(name: str, probe: list[str]) -> bool:
    """Whether a probe's command ends well in a container."""
    return "is ready" in docker("exec", name, *probe, ok=False)


def has_stand_ins() -> bool:
    """Whether the bases were made here."""
    return bool(docker("images", "--quiet", "pgdibs-trial/debian"))
