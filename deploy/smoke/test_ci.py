"""The containers of the CI recipes, arranged as each product arranges them, and the example's suite beside them.

GitHub: service containers with published ports; the tests run on the machine. GitLab: the tests run in a container of the same
network. Kubernetes: a pod, so one network namespace. Images, variables and commands are read from the files in deploy/.
"""

from __future__ import annotations

import shlex
import sys
from typing import Any

import conftest as smoke
from ruamel.yaml import YAML


def read(path: str) -> Any:
    """Reads a YAML file below deploy/."""
    return YAML(typ="safe").load(smoke.REPOSITORY / "deploy" / path)


def as_options(variables: dict[str, Any]) -> list[str]:
    """Returns the options of `docker run` for environment variables."""
    return [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]


def test_github_service_containers(start: smoke.Start) -> None:
    services = read("ci/github/plain.yml")["jobs"]["tests"]["services"]
    http, postgres = smoke.free_port(), smoke.free_port()
    server, daemon = services["postgres"], services["pgdibs"]
    options = [*as_options(server["env"]), "--publish", f"127.0.0.1:{postgres}:5432", *shlex.split(server["options"])]
    variables = {**daemon["env"], "PGDIBS_ADVERTISE": f"localhost:{postgres}"}
    smoke.wait_for_health(start("postgres", *options, server["image"]))
    smoke.wait_for_health(start("pgdibs", *as_options(variables), "--publish", f"127.0.0.1:{http}:7432", smoke.DAEMON))
    shop = smoke.REPOSITORY / "examples/fastapi-shop"
    assert " passed" in smoke.run(sys.executable, "-m", *smoke.SUITE, cwd=shop, PGDIBS_URL=f"http://localhost:{http}")


def test_gitlab_service_and_job_container(start: smoke.Start) -> None:
    job = read("ci/gitlab/.gitlab-ci.yml")["tests"]
    service = job["services"][0]
    name = start(service["alias"], *as_options(service["variables"]), smoke.EMBEDDED)
    smoke.wait_for_health(name)
    where = ["--network", name.rpartition("-")[0], "--env", f"PGDIBS_URL={job['variables']['PGDIBS_URL']}"]
    assert " passed" in smoke.docker("run", "--rm", *where, smoke.TESTS, *smoke.SUITE)


def test_kubernetes_pod_with_a_sidecar(start: smoke.Start) -> None:
    pod = read("kubernetes/sidecar/job.yaml")["spec"]["template"]["spec"]
    network = f"container:{start('pod', '--entrypoint', 'sleep', smoke.EMBEDDED, '900')}"
    sidecar, tests = pod["initContainers"][0], pod["containers"][0]

    def options(container: dict[str, Any]) -> list[str]:
        """Returns the options of `docker run` that give a container the rights, volumes and variables of its spec."""
        security = container["securityContext"]
        assert (security["readOnlyRootFilesystem"], security["capabilities"]) == (True, {"drop": ["ALL"]})
        rights = ["--read-only", "--cap-drop", "ALL", "--user", f"{security['runAsUser']}:{security['runAsGroup']}"]
        mounts = [word for mount in container["volumeMounts"] for word in ("--tmpfs", f"{mount['mountPath']}:mode=0777")]
        variables = as_options({variable["name"]: variable["value"] for variable in container["env"]})
        return ["--network", network, *rights, *mounts, *variables]

    name = start("sidecar", *options(sidecar), smoke.EMBEDDED)
    smoke.wait_until_ready(name)
    assert " passed" in smoke.docker("run", "--rm", *options(tests), smoke.TESTS, *tests["command"], *smoke.SUITE[-4:])
    smoke.stop(name)
