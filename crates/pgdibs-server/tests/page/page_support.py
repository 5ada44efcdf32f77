"""What tests of the page have: a daemon with something to show, calls to its API, and a headless Chromium from Debian."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Optional
from urllib.parse import quote

from daemon_process import TemporaryDaemon, postgres_programs
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

# What the first template of a pool has.
SCHEMA = "create table customers (id int generated always as identity, name text);"


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

    def build(self, pool: str, fingerprint: str, holder: str, schema: str = SCHEMA) -> None:
        """Builds a template with psql."""
        path = f"/v1/pools/{pool}/templates/{quote(fingerprint, safe='')}"
        build = self.call("PUT", path, {"holder": holder})["build"]
        psql = [f"{postgres_programs()}/psql", "-qc", schema, build["url"]]
        subprocess.run(psql, check=True, capture_output=True, timeout=60)
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

    def keep(self, lease: dict[str, Any], reason: str) -> str:
        """Keeps the database of a lease, and ends the lease; the name of the kept database."""
        kept = self.call("POST", f"/v1/leases/{lease['id']}/keep", {"seconds": 3600, "reason": reason})
        self.call("DELETE", f"/v1/leases/{lease['id']}")
        return str(kept["kept_database"])

    @contextmanager
    def waiting(self, pool: str, **fields: Any) -> Iterator[None]:
        """A caller that waits meanwhile; it gets no database."""
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(self.lease, pool, wait_seconds=30, **fields)
            yield
            # Whatever the wait comes to.
            call.add_done_callback(lambda _: None)

    def close(self) -> None:
        """Ends the daemon and deletes its data."""
        self.daemon.stop()
        shutil.rmtree(self.daemon.data)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that Debian has; as root it has no sandbox."""
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        assert program, "chromium is needed: scripts/install-tools.sh chromium"
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def visitor(browser: Browser, stage: Stage, **options: Any) -> BrowserContext:
    """A browser whose user answers the question for a password with the token."""
    return browser.new_context(http_credentials={"username": "me", "password": stage.token}, **options)


def open_page(context: BrowserContext, url: str) -> Page:
    """The page, once it is live."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector('#live[data-state="live"]')
    return page
