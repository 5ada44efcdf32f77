"""Runs the jobs of a GitHub Actions workflow as its file says: services, then steps, in order; says what is only hosted.

Known: `run` steps, `defaults`, `env`, `if: failure()`, the expressions `${{ matrix.… }}`; of the actions, checkout and the two
for artifacts, which are stood in for by copies, and setup-uv, by uv from PyPI. Anything else is an error, so that a file cannot
outgrow this unnoticed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from docker import REPOSITORY, docker, inspect, run, until
from ruamel.yaml import YAML
from transcript import Failed, Transcript, check

STEP_SECONDS = 900.0
KNOWN_OF_A_JOB = {"runs-on", "timeout-minutes", "strategy", "services", "defaults", "steps", "needs"}
KNOWN_OF_A_STEP = {"name", "uses", "with", "run", "env", "if"}


class Runner:
    """A machine such as the hosted ones: a fresh checkout for each job, always at the same place, and a store of artifacts."""

    def __init__(self, transcript: Transcript, work: Path, wheel: Path) -> None:
        self.transcript = transcript
        self.checkout = work / "checkout"
        self.artifacts = work / "artifacts"
        self.data = work / "runner-data"
        self._overrides = work / "overrides.txt"
        # Packages that are not on PyPI yet, so that pip does not install another project of that name.
        self._overrides.write_text(f"pgdibs @ {wheel.as_uri()}\n")
        self.reported: set[str] = set()
        self.summary: list[str] = []

    def workflow(self, path: Path) -> None:
        """Every job, with every value of its matrix, in the order of `needs`."""
        file = YAML(typ="safe").load(path)
        shutil.rmtree(self.artifacts, ignore_errors=True)
        for name, job in file["jobs"].items():
            check(set(job) <= KNOWN_OF_A_JOB, f"{path.name}, job {name}: the trial does not know {set(job) - KNOWN_OF_A_JOB}")
            matrix = job.get("strategy", {}).get("matrix", {})
            check(len(matrix) <= 1, f"{path.name}, job {name}: the trial knows matrices of one dimension")
            variable, values = next(iter(matrix.items()), ("", [None]))
            for value in values:
                label = f"{name} ({variable} {value})" if value is not None else name
                self._job(label, job, {f"matrix.{variable}": str(value)})

    def _job(self, label: str, job: dict[str, Any], values: dict[str, str]) -> None:
        self._check_out()
        self.summary = []
        with self._services(job.get("services", {})) as moved:
            directory = job.get("defaults", {}).get("run", {}).get("working-directory", ".")
            for step in job["steps"]:
                check(set(step) <= KNOWN_OF_A_STEP, f"job {label}: the trial does not know {set(step) - KNOWN_OF_A_STEP}")
                if "uses" in step:
                    self._action(step["uses"], filled(step.get("with", {}), values))
                elif step.get("if") == "failure()":
                    continue
                else:
                    check("if" not in step, f"job {label}: the trial does not know `if: {step.get('if')}`")
                    self._step(label, step, self.checkout / directory, {**moved, **filled(step.get("env", {}), values)})
        self.transcript.add(f"     job {label}: {'; '.join(self.summary)}")

    def _check_out(self) -> None:
        """What git knows or would add, as it is now: a checkout of a commit that is about to be made."""
        shutil.rmtree(self.checkout, ignore_errors=True)
        self.checkout.mkdir(parents=True)
        command = (
            "git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T - | tar -xf - -C"
        )
        subprocess.run(
            f"{command} {shlex.quote(str(self.checkout))}", shell=True, check=True, cwd=REPOSITORY, stderr=subprocess.DEVNULL
        )

    def _action(self, uses: str, given: dict[str, str]) -> None:
        name = uses.partition("@")[0]
        if name == "actions/checkout":
            self._hosted(uses, "a copy of the working tree")
        elif name == "astral-sh/setup-uv":
            self._hosted(
                uses, f"uv from PyPI with this machine's Python, not {given.get('python-version')}; its cache is this machine's"
            )
        elif name == "actions/upload-artifact":
            self._hosted(uses, "a copy in a directory")
            source = self.checkout / given["path"]
            # As the action does it.
            check(
                not source.name.startswith(".") or given.get("include-hidden-files") == "True", f"{uses} leaves out {source.name}"
            )
            check(source.is_file(), f"{uses}: {given['path']} was not made")
            (self.artifacts / given["name"]).mkdir(parents=True)
            shutil.copy(source, self.artifacts / given["name"])
        elif name == "actions/download-artifact":
            self._hosted(uses, "a copy from that directory")
            for file in sorted(self.artifacts.glob(f"{given['pattern']}/*")) + sorted(
                self.artifacts.glob(f"{given['pattern']}/.*")
            ):
                shutil.copy(file, self.checkout / given["path"])
        else:
            raise Failed(f"the trial does not know the action {uses}")

    def _hosted(self, uses: str, instead: str) -> None:
        if uses not in self.reported:
            self.reported.add(uses)
            self.transcript.not_run(f"`uses: {uses}`", f"needs the hosted service; stood in for by {instead}")

    def _step(self, label: str, step: dict[str, Any], directory: Path, more: dict[str, str]) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PGDIBS_", "UV_", "VIRTUAL_ENV"))
        }
        # A runner is fresh, this machine is not: no job takes over what another daemon has left in memory.
        environment.update(CI="true", PGDIBS_DATA_DIR=str(self.data))
        environment.update(UV_OVERRIDE=str(self._overrides), UV_PYTHON_DOWNLOADS="never", UV_SYSTEM_CERTS="1", **more)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-c", step["run"]],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_SECONDS,
        )
        check(done.returncode == 0, f"job {label}, step {step.get('name')} ended with {done.returncode}:\n{done.stdout[-3000:]}")
        told = [line.strip("= ") for line in done.stdout.splitlines() if re.search(r"\d+ passed|^TOTAL ", line)]
        self.summary.append(f"{step.get('name')}: {re.sub(r' +', ' ', told[-1])}" if told else f"{step.get('name')}: ok")

    @contextmanager
    def _services(self, services: dict[str, Any]) -> Iterator[dict[str, str]]:
        """The job's services, all at once as the runner starts them, and healthy; variables, when a port is taken here."""
        network, started = "pgdibs-trial-job", []
        moved = {port: free_or_other(int(port)) for service in services.values() for port in ports_of(service)}
        if services:
            docker("network", "create", "--label", "com.docker.compose.project=pgdibs-trial", network)
        try:
            for name, service in services.items():
                arguments = ["--network", network, "--network-alias", name]
                for variable, value in service.get("env", {}).items():
                    for port, other in moved.items():
                        value = str(value).replace(f"localhost:{port}", f"localhost:{other}")
                    arguments += ["--env", f"{variable}={value}"]
                for port in ports_of(service):
                    arguments += ["--publish", f"127.0.0.1:{moved[port]}:{port}"]
                docker(
                    "run",
                    "--detach",
                    "--name",
                    f"pgdibs-trial-{name}",
                    *arguments,
                    *shlex.split(service.get("options", "")),
                    service["image"],
                )
                started.append(f"pgdibs-trial-{name}")
            for name in started:
                until(f"{name} is healthy, which the runner waits for", lambda name=name: is_healthy(name))  # type: ignore[misc]
            reached = moved.get("7432", 7432)
            if reached != 7432 and "7432 is taken" not in self.reported:
                self.reported.add("7432 is taken")
                self.transcript.add(
                    f"     port 7432 is taken on this machine: the steps get PGDIBS_URL=http://localhost:{reached}"
                )
            yield {} if reached == 7432 else {"PGDIBS_URL": f"http://localhost:{reached}"}
        finally:
            for name in started:
                docker("rm", "--force", "--volumes", name, ok=False)
            if services:
                docker("network", "rm", network, ok=False)


def is_healthy(container: str) -> bool:
    """Healthy; an end is a failure at once."""
    state = inspect(container)["State"]
    check(state["Running"], f"{container} has ended:\n{docker('logs', '--tail', '30', container, ok=False)}")
    check("Health" in state, f"{container} has no health check, so the runner would not wait for it")
    return bool(state["Health"]["Status"] == "healthy")


def ports_of(service: dict[str, Any]) -> list[str]:
    """The published ports, which are the containers' own."""
    pairs = [str(port).split(":") for port in service.get("ports", [])]
    check(all(len(pair) == 2 and pair[0] == pair[1] for pair in pairs), f"the trial knows ports such as 5432:5432, not {pairs}")
    return [pair[1] for pair in pairs]


def free_or_other(port: int) -> int:
    """The port, or another one when it is taken on this machine."""
    from daemon_process import free_port, is_free

    return port if is_free(port) else free_port()


def filled(values: dict[str, Any], known: dict[str, str]) -> dict[str, str]:
    """Expressions replaced by what they stand for."""

    def value_of(match: re.Match[str]) -> str:
        found: Optional[str] = known.get(match[1])
        if found is None:
            raise Failed(f"the trial does not know the expression {match[0]}")
        return found

    return {name: re.sub(r"\$\{\{ *([^} ]+) *\}\}", value_of, str(value)) for name, value in values.items()}


def uv(transcript: Transcript) -> None:
    """uv on PATH, from PyPI."""
    if shutil.which("uv") is None:
        tools = run("bash", "-c", "source scripts/environment.sh && scripts/install-tools.sh uv >&2 && echo $tools")
        os.environ["PATH"] += f":{tools.splitlines()[-1]}/bin"
    transcript.add(f"     {run('uv', '--version')}")
