"""The controller of xdist's workers: it announces the run and ends it, however the process ends."""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from pgdibs.errors import PgdibsError
from pgdibs.plugin.failures import BuildFailed, usage_error
from pgdibs.plugin.share import Share
from pgdibs.plugin.variables import PLUGIN_STATE

if TYPE_CHECKING:
    from pgdibs.client import Client
    from pgdibs.plugin.settings import Settings
    from pgdibs.plugin.summary import Summary
    from pgdibs.plugin.template import Templates
    from pgdibs.plugin.timeline import Timeline

RENEW_EVERY_SECONDS = 20.0
"""A third of the time to live of a lease. The controller renews too, because the thread of a worker may be blocked."""


class Controller:
    """The hooks of a process whose workers run the tests."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        client: Client,
        run: str,
        templates: Templates,
        summary: Summary,
        timeline: Timeline,
        tmpdir: str,
    ) -> None:
        self.config = config
        self.settings = settings
        self.client = client
        self.run = run
        self.templates = templates
        self.summary = summary
        self.tmpdir = tmpdir
        self.timeline = timeline
        self._is_announced = False
        self._nodes: list[Any] = []
        self._final: set[str] = set()
        """The workers whose final share has come."""
        self._ended = threading.Event()
        self._process = os.getpid()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Give xdist the id of the run, unless the user has set one. The plugin does not use an id from the user, because two
        runs may have the same.
        """
        if config.option.testrunuid is None:
            config.option.testrunuid = uuid.UUID(self.run).hex
        # `-n auto` may yield no workers; then this process would run the tests, with unavailable variables.
        if config.option.dist == "no" and not getattr(config.option, "looponfail", False):
            raise pytest.UsageError(
                "pgdibs: xdist starts no workers here, but that was not clear when conftest.py was imported; "
                "use `-n0`, or give -n a number"
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: list[Any]) -> None:
        """Ensure the templates, announce the run, and give the workers their payload."""
        try:
            with self.timeline.during("template"):
                fingerprints = self.templates.fingerprints()
                self.templates.ensure()
            pools = list(self.settings.aliases.values())
            atexit.register(self.end)
            self.config.add_cleanup(self.end)
            self._is_announced = True
            for pool in dict.fromkeys(pools):
                self.client.announce(self.run, pool, len(specs), fingerprint=fingerprints.get(pool), aliases=pools.count(pool))
        except (PgdibsError, BuildFailed) as error:
            raise usage_error(error, self.settings) from error
        payload = {
            "run": self.run,
            "settings": self.settings.to_payload(),
            "token": os.environ.get("PGDIBS_TOKEN", ""),
            "aliases": self.settings.aliases,
            "variables": [variable.to_payload() for variable in self.settings.variables],
            "fingerprints": fingerprints,
            "tmpdir": self.tmpdir,
            "has_lane": self.timeline.lane is not None,
        }
        for spec in specs:
            # Not in os.environ, because a worker on another host has an environment of its own.
            spec.env[PLUGIN_STATE] = json.dumps(payload)
        threading.Thread(target=self._renew, name="pgdibs-renew", daemon=True).start()
        self.summary.start_workers(len(specs))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Record when the worker was started."""
        self.summary.add_worker(node.gateway.id, is_local=bool(node.gateway.spec.popen))
        self._nodes.append(node)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the share of a worker from its report of a test, before other plugins see the report."""
        share = vars(report).pop("pgdibs_share", None)
        if share is not None and share["worker"] not in self._final:
            self.summary.add(Share(**share))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Release the leases of a worker that died; one that ended in order has released them."""
        self._take_final_share(node)
        if error is not None:
            self.summary.end_worker(node.gateway.id)
        if error is None:
            sentence = (getattr(node, "workeroutput", None) or {}).get("pgdibs_usage_error")
            if sentence is not None:
                raise pytest.UsageError(sentence)
            return
        usage_error_line = re.search(r"UsageError: (pgdibs: .*)", str(error))
        if usage_error_line is not None:
            raise pytest.UsageError(usage_error_line[1])
        try:
            for lease in self.client.leases(run=self.run):
                if lease["worker"] == node.gateway.id:
                    self.client.ask("DELETE", f"/v1/leases/{quote(lease['id'])}", timeout=10.0)
        except PgdibsError as failure:
            print(f"pgdibs: the lease of {node.gateway.id} was not released: {failure}", file=sys.stderr)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Collect the final shares and end the run. After Ctrl-C xdist does not deliver them, so ask the daemon."""
        for node in self._nodes:
            self._take_final_share(node)
        if self._is_announced and not self._ended.is_set() and len(self._final) < len(self._nodes):
            self._complete_shares()
        self.summary.finish(self.client, self.run)
        self.end()

    def _take_final_share(self, node: Any) -> None:
        """Add the final share of a worker that ended in order."""
        share = (getattr(node, "workeroutput", None) or {}).get("pgdibs")
        if share is not None:
            self._final.add(share["worker"])
            self.summary.add(Share(**share))

    def _complete_shares(self) -> None:
        """Add the leases of workers that have reported no test, from the daemon."""
        try:
            answer = self.client.ask("GET", f"/v1/leases?run={quote(self.run)}&state=all", timeout=5.0)
        except PgdibsError:
            return
        reported = {worker for worker, share in self.summary.shares.items() if share.leases}
        for lease in answer.body.get("leases", []) if isinstance(answer.body, dict) else []:
            worker = lease.get("worker")
            if worker and worker not in reported:
                share = self.summary.shares.setdefault(worker, Share(worker))
                share.leases += 1
                share.waits.append(lease.get("waited_seconds", 0.0))
                share.resets += lease.get("generation", 1) - 1

    def end(self) -> None:
        """End the run with its leases. Does nothing when called again, or in a forked child."""
        if self._ended.is_set() or not self._is_announced or os.getpid() != self._process:
            return
        self._ended.set()
        atexit.unregister(self.end)
        try:
            self.client.end_run(self.run)
        except PgdibsError as error:
            print(f"pgdibs: the run was not ended, its leases end by themselves: {error}", file=sys.stderr)
        self.client.close()

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_EVERY_SECONDS):
            try:
                for lease in self.client.leases(run=self.run):
                    if not self._ended.is_set():
                        self.client.ask("POST", f"/v1/leases/{quote(lease['id'])}/renew", {}, timeout=10.0)
            except PgdibsError:
                continue  # the workers renew too, and report a lost lease
