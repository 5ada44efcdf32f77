"""A daemon with something to show, and calls to its API: for tests of the page and of the terminal screen."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Optional
from urllib.parse import quote

from daemon_process import TemporaryDaemon, postgres_programs

# What templates have.
SCHEMA = "create table customers (id int generated always as identity, name text);"


def until(what: str, holds: Callable[[], object], within_seconds: float = 60) -> None:
    """Polls until something holds."""
    deadline = time.monotonic() + within_seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_seconds:.0f} s: {what}"
        # The pause between two looks at a level.
        time.sleep(0.05)


class Stage:
    """A daemon and its API."""

    def __init__(self) -> None:
        self.daemon = TemporaryDaemon()
        self.url = self.daemon.url
        self.token = self.daemon.variables["PGDIBS_TOKEN"]

    def call(self, method: str, path: str, body: Optional[dict[str, Any]] = None) -> Any:
        """The answer to one call; an error raises."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith("{") else text

    def pool(self, name: str, **settings: int) -> None:
        """A pool with a template `v1`."""
        self.call("PUT", f"/v1/pools/{name}", dict(settings))
        self.build(name, "v1", "builder")

    def build(self, pool: str, fingerprint: str, holder: str) -> None:
        """Builds a template with psql."""
        path = f"/v1/pools/{pool}/templates/{quote(fingerprint, safe='')}"
        build = self.call("PUT", path, {"holder": holder})["build"]
        subprocess.run([f"{postgres_programs()}/psql", "-qc", SCHEMA, build["url"]], check=True, capture_output=True, timeout=60)
        self.call("POST", f"{path}/seal", {"token": build["token"]})

    def fail(self, pool: str, fingerprint: str, holder: str, log: str) -> None:
        """A build that fails with this output."""
        path = f"/v1/pools/{pool}/templates/{quote(fingerprint, safe='')}"
        build = self.call("PUT", path, {"holder": holder})["build"]
        self.call("POST", f"{path}/abandon", {"token": build["token"], "detail": log})

    def lease(self, pool: str, **fields: Any) -> dict[str, Any]:
        """A lease that no test outlives."""
        lease: dict[str, Any] = self.call("POST", "/v1/leases", {"pool": pool, "ttl_seconds": 3600, **fields})
        return lease

    def live(self) -> list[str]:
        """The databases that are leased."""
        return [lease["database"] for lease in self.call("GET", "/v1/leases")["leases"]]

    def keep(self, lease: dict[str, Any], reason: str) -> str:
        """Keeps the database of a lease, and ends the lease; the name of the kept database."""
        kept = self.call("POST", f"/v1/leases/{lease['id']}/keep", {"seconds": 3600, "reason": reason})
        self.call("DELETE", f"/v1/leases/{lease['id']}")
        until("the database is kept", lambda: kept["kept_database"] in self.kept())
        return str(kept["kept_database"])

    def kept(self) -> list[str]:
        """The databases that are kept after their lease."""
        databases = self.call("GET", "/v1/databases")["databases"]
        return [database["database"] for database in databases if database["state"] == "kept"]

    def wait(self, pool: str, **fields: Any) -> None:
        """A caller that waits for a database from now on, in a thread of its own."""

        def acquire() -> None:
            try:
                self.lease(pool, wait_seconds=30, **fields)
            except (urllib.error.HTTPError, OSError):
                # The daemon ended, or the wait was in vain.
                return

        before = len(self.call("GET", "/v1/status")["waiters"])
        threading.Thread(target=acquire, daemon=True).start()
        until("the caller waits", lambda: len(self.call("GET", "/v1/status")["waiters"]) > before)

    def close(self) -> None:
        """Ends the daemon and deletes its data."""
        self.daemon.stop()
        shutil.rmtree(self.daemon.data)
