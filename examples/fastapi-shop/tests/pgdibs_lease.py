"""Take a database from pgdibs, keep it, give it back: the whole client, in the standard library. Copy it as it is.

    template_ready(daemon, "myapp_test", fingerprint, build)   # builds it when this process is the first to need it
    lease = Lease.acquire(daemon, pool="myapp_test", fingerprint=fingerprint, run=run, worker="gw0")
    point_variables_at(lease.url, "DATABASE_URL", "TEST_DATABASE_URL")   # before the application is imported
    ...
    lease.release()

A thread renews the lease while the process lives; when the process dies, pgdibs takes the database back by itself.
"""

from __future__ import annotations

import atexit
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

WAIT_SECONDS = 30.0
"""How long one request waits at the daemon before it answers "not yet"."""
DEADLINE_SECONDS = 180.0
"""How long we go on asking, altogether."""
TTL_SECONDS = 60
"""How long the daemon waits for a sign of life before it takes a database back."""


class DaemonRefused(Exception):
    """An answer of the daemon that is not the one we hoped for; `str()` of it is a sentence for people."""

    def __init__(self, call: str, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code: str = problem.get("code", "")
        self.detail: str = problem.get("detail") or problem.get("title") or ""
        super().__init__(f"pgdibs answered {call} with {status} {self.code}: {self.detail}")


class DaemonSilent(Exception):
    """Nobody answers at the daemon's address."""


class Daemon:
    """The daemon at `PGDIBS_URL`, with the token in `PGDIBS_TOKEN`. Proxies of the environment are not used."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.url = url or os.environ.get("PGDIBS_URL") or "http://127.0.0.1:7432"
        self._token = token or os.environ.get("PGDIBS_TOKEN")

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any, float]:
        """One request: status, JSON (or None) and the seconds of `Retry-After` (0 without). Any status is an answer."""
        address = urlsplit(self.url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "127.0.0.1", address.port, timeout=WAIT_SECONDS + 15)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise DaemonSilent(
                f"no pgdibs daemon answers at {self.url} ({error}): start one with `pgdibs serve`, or set PGDIBS_URL"
            ) from error
        finally:
            connection.close()
        is_json = "json" in (response.headers.get("Content-Type") or "")
        answer = json.loads(text) if text and is_json else {"detail": text.decode(errors="replace")} if text else None
        return response.status, answer, float(response.headers.get("Retry-After") or 0)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Ask until there is a final answer: `Retry-After` means "try again", everything else is final."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            status, answer, retry_after = self.ask(method, path, body)
            if status < 400 and not retry_after:
                return status, answer
            if not retry_after:
                raise DaemonRefused(f"{method} {path}", status, answer or {})
            if time.monotonic() + retry_after > deadline:
                problem = dict(answer or {})
                if status == 202:
                    holder, since = problem.get("holder", "somebody"), problem.get("since", "a while ago")
                    problem["detail"] = f"{holder} has been building this template since {since} and is not done"
                raise DaemonRefused(f"{method} {path}, asked for {DEADLINE_SECONDS:.0f} s,", status, problem)
            time.sleep(retry_after)  # the daemon says how long


def fingerprint_of(root: Path, patterns: Iterable[str]) -> str:
    """A hash over names and contents of all files that match: whatever shapes the schema."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()}):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def holder_name(worker: str) -> str:
    """Who we are, for people who read the daemon's status."""
    return f"{socket.gethostname()}/{os.getpid()}/{worker}"


def template_ready(daemon: Daemon, pool: str, fingerprint: str, build: Callable[[str], None], worker: str) -> None:
    """Come back when the template exists; `build(url)` makes the schema when nobody has made it yet."""
    daemon.call("PUT", f"/v1/pools/{quote(pool)}", {})
    template = f"/v1/pools/{quote(pool)}/templates/{quote(fingerprint, safe='')}"
    wanted = {"holder": holder_name(worker), "wait_seconds": WAIT_SECONDS}
    status, answer = daemon.call("PUT", template, wanted)
    if status != 201:
        return
    token = answer["build"]["token"]
    try:
        build(answer["build"]["url"])
    except BaseException as error:
        daemon.ask("POST", f"{template}/abandon", {"token": token, "detail": str(error)[-2000:]})
        raise
    daemon.call("POST", f"{template}/seal", {"token": token})


def build_with_command(command: list[str], cwd: Path) -> Callable[[str], None]:
    """A `build` that runs a migration command with `DATABASE_URL` set to the database to fill."""

    def build(url: str) -> None:
        environment = {**os.environ, "DATABASE_URL": url}
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            output = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{output}")

    return build


def point_variables_at(leased_url: str, *names: str) -> None:
    """Set variables to the leased database; the driver prefix and the query string that each has are kept."""
    target = urlsplit(leased_url)
    for name in names:
        existing = urlsplit(os.environ.get(name, ""))
        query = "&".join(part for part in (target.query, existing.query) if part)
        os.environ[name] = target._replace(scheme=existing.scheme or target.scheme, query=query).geturl()


class Lease:
    """A database that is ours alone until `release`."""

    def __init__(self, daemon: Daemon, answer: dict[str, Any]) -> None:
        self._daemon = daemon
        self._over = threading.Event()
        self.id: str = answer["id"]
        self.url: str = answer["url"]
        self.database: str = answer["database"]
        self.generation: int = answer["generation"]
        self.lost_because: str | None = None
        """Set when the lease ended although we did not release it; what is done from then on is worth nothing."""
        self._renewer = threading.Thread(
            target=self._renew_for_ever, args=(float(answer["renew_after_seconds"]),), name="pgdibs-renew", daemon=True
        )
        self._renewer.start()
        atexit.register(self.release)

    @classmethod
    def acquire(
        cls, daemon: Daemon, *, pool: str, fingerprint: str | None, run: str, worker: str, alias: str = "default"
    ) -> Lease:
        """Wait for a clean database; the same run, worker and alias get the same one, so a retry takes no second."""
        wanted = {"pool": pool, "run": run, "worker": worker, "alias": alias, "holder": holder_name(worker)}
        if fingerprint is not None:
            wanted["fingerprint"] = fingerprint
        body = {**wanted, "ttl_seconds": TTL_SECONDS, "wait_seconds": WAIT_SECONDS}
        _status, answer = daemon.call("POST", "/v1/leases", body)
        return cls(daemon, answer)

    def _renew_for_ever(self, renew_after_seconds: float) -> None:
        pause, last_renewed = renew_after_seconds, time.monotonic()
        while not self._over.wait(pause):
            pause, trouble = renew_after_seconds, ""
            try:
                status, answer, retry_after = self._daemon.ask("POST", f"/v1/leases/{self.id}/renew", {})
                if status == 200:
                    last_renewed = time.monotonic()
                    continue
                if status in (404, 410) and not self._over.is_set():
                    self._lose((answer or {}).get("detail", "it is over"))
                    return
                trouble = f"{status} {(answer or {}).get('detail', '')}"
                pause = retry_after or 1.0
            except DaemonSilent as error:
                trouble, pause = str(error), 1.0
            if time.monotonic() - last_renewed > TTL_SECONDS:
                print(f"pgdibs: {self.database} could not be renewed: {trouble}", file=sys.stderr, flush=True)

    def _lose(self, reason: str) -> None:
        self.lost_because = f"the lease on {self.database} ended under us: {reason}"
        print(f"pgdibs: {self.lost_because}", file=sys.stderr, flush=True)

    def reset(self) -> None:
        """A freshly cloned database under the same name and URL; every session on the old one ends."""
        body = {"generation": self.generation, "wait_seconds": WAIT_SECONDS}
        _status, answer = self._daemon.call("POST", f"/v1/leases/{self.id}/reset", body)
        self.generation = answer["generation"]

    def release(self) -> None:
        """Give the database back; calling it again does nothing. What goes wrong here the daemon mends by itself."""
        if self._over.is_set():
            return
        self._over.set()
        atexit.unregister(self.release)
        try:
            self._daemon.ask("DELETE", f"/v1/leases/{self.id}")
        except DaemonSilent as error:
            print(f"pgdibs: {self.database} was not released: {error}", file=sys.stderr, flush=True)
