"""The docker command, and what is asked of containers again and again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional, TypeVar

from transcript import Failed

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HEALTHY_SECONDS = 90.0
BUILD_SECONDS = 3600.0

SOCKETS = ("ss", "--tcp", "--listening", "--numeric", "--no-header")

T = TypeVar("T")


def run(
    *command: str, within: float = 300.0, cwd: Optional[Path] = None, env: Optional[dict[str, str]] = None, ok: bool = True
) -> str:
    """What a command printed, both streams; raises `Failed` with its end when it did not end well."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd or REPOSITORY,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=within,
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else (error.stdout or "")
        raise Failed(f"`{' '.join(command)}` had not ended after {within:.0f} s; output:\n{output[-3000:]}") from error
    if ok and done.returncode != 0:
        raise Failed(f"`{' '.join(command)}` ended with {done.returncode}; output:\n{done.stdout[-3000:]}")
    return done.stdout.strip()


def docker(*arguments: str, within: float = 300.0, ok: bool = True, env: Optional[dict[str, str]] = None) -> str:
    """`docker …`, as `run`."""
    return run("docker", *arguments, within=within, ok=ok, env=env)


def inspect(name: str) -> dict[str, Any]:
    """All that Docker knows of a container or an image."""
    answer: dict[str, Any] = json.loads(docker("inspect", name))[0]
    return answer


def health(container: str) -> str:
    """`starting`, `healthy`, `unhealthy`; or the container's state when it does not run or has no check."""
    state = inspect(container)["State"]
    status: str = state["Health"]["Status"] if state["Running"] and "Health" in state else state["Status"]
    return status


def until(what: str, condition: Callable[[], Optional[T]], within: float = HEALTHY_SECONDS) -> T:
    """The first answer that is neither None nor False; raises `Failed` with the last one when the time is over."""
    deadline = time.monotonic() + within
    while True:
        seen = condition()
        if seen is not None and seen is not False:
            return seen
        if time.monotonic() > deadline:
            raise Failed(f"not within {within:.0f} s: {what}")
        # The pause between two probes of a level.
        time.sleep(0.1)


class HealthWatch:
    """The states of health that a container goes through, each once when it changes; a thread samples."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.seen = [health(container)]
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def sample(self) -> str:
        """The state now."""
        with self._lock:
            now = health(self.container)
            if now != self.seen[-1] and now in ("starting", "healthy", "unhealthy"):
                self.seen.append(now)
            return now

    def until(self, wanted: str, within: float = HEALTHY_SECONDS) -> list[str]:
        """Waits for a state; all that were seen since the beginning."""
        until(f"{self.container} is {wanted} (seen: {self.seen})", lambda: self.sample() == wanted, within)
        return self.seen

    def shown(self) -> str:
        """All that were seen, and end the sampling."""
        self._is_over.set()
        return " → ".join(self.seen)

    def _watch(self) -> None:
        while not self._is_over.wait(0.1):
            try:
                self.sample()
            except Failed:
                return


def pid_of(container: str, program: str) -> int:
    """The process of that name in a container, as this machine numbers it."""
    first = int(inspect(container)["State"]["Pid"])
    waiting = [first]
    while waiting:
        pid = waiting.pop(0)
        if Path(f"/proc/{pid}/comm").read_text().strip() == program:
            return pid
        # Each thread has its own children.
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            waiting.extend(int(child) for child in children.read_text().split())
    raise Failed(f"{container} has no process `{program}`")


def listening(pid: int) -> set[str]:
    """`address:port` of everything that listens on TCP in the network of a process. Docker's own resolver is left out."""
    lines = run("nsenter", "--target", str(pid), "--net", *SOCKETS).splitlines()
    return {line.split()[3] for line in lines if line.strip() and not line.split()[3].startswith("127.0.0.11:")}


def published() -> set[str]:
    """`address:port` of everything that Docker's processes listen on here; other processes may do as they like."""
    lines = run(*SOCKETS, "--processes").splitlines()
    return {line.split()[3] for line in lines if re.search(r'"(docker|containerd)', line)}


@contextmanager
def container(*arguments: str, name: str) -> Iterator[str]:
    """A container that runs meanwhile."""
    docker("run", "--detach", "--name", name, *arguments)
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name, ok=False)


def size_of(image: str) -> str:
    """Megabytes, uncompressed."""
    return f"{int(inspect(image)['Size']) / 1_000_000:.0f} MB"
