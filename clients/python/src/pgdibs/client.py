"""The client: pools, templates, leases and runs of one daemon."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Optional
from urllib.parse import urlencode

from pgdibs.calls import DEADLINE_SECONDS, Caller
from pgdibs.lease import Lease
from pgdibs.templates import TemplateReady, ensure
from pgdibs.transport import segment


@dataclass(frozen=True)
class LeaseRequest:
    """One lease of a batch; the fields are those of `Client.lease`."""

    pool: str
    fingerprint: Optional[str] = None
    run: Optional[str] = None
    worker: Optional[str] = None
    alias: str = "default"
    holder: Optional[str] = None
    ttl_seconds: int = 60
    fresh: bool = False
    via: Optional[str] = None

    def body(self) -> dict[str, Any]:
        """The JSON body of the request."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {"holder": holder_name(self.worker), **given}


def holder_name(worker: Optional[str] = None) -> str:
    """The name of this process in the daemon's status: host, process, worker."""
    name = f"{socket.gethostname()}/{os.getpid()}"
    return f"{name}/{worker}" if worker else name


def report_path(run: str) -> str:
    """The path of a run's report in the API."""
    return f"/v1/runs/{segment('run', run)}/report"


def report_body(
    pool: Optional[str],
    seconds: dict[str, float],
    workers: Sequence[dict[str, Any]],
    fingerprint_inputs: dict[str, str],
    holder: str,
) -> dict[str, Any]:
    """The JSON body of a run's report."""
    body: dict[str, Any] = {"holder": holder, "seconds": seconds, "workers": list(workers)}
    if pool is not None:
        body["pool"] = pool
    if fingerprint_inputs:
        body["fingerprint_inputs"] = fingerprint_inputs
    return body


class Client(Caller):
    """The daemon at `url` (else PGDIBS_URL, else http://127.0.0.1:7432), with `token` (else PGDIBS_TOKEN).

    `via` (else PGDIBS_VIA) selects one of the server addresses that the daemon advertises; the URLs of leases use it. The client
    opens no socket before the first call. Threads and forked children may share it.
    Raises `ValueError` if `url` is no address.
    """

    def put_pool(self, pool: str, **settings: Any) -> dict[str, Any]:
        """Create a pool, or change the given settings (`warm`, `max`, `spares`, …) of an existing one."""
        answer: dict[str, Any] = self.call("PUT", f"/v1/pools/{segment('pool', pool)}", settings)
        return answer

    def lease(
        self,
        pool: str,
        *,
        fingerprint: Optional[str] = None,
        run: Optional[str] = None,
        worker: Optional[str] = None,
        alias: str = "default",
        holder: Optional[str] = None,
        ttl_seconds: int = 60,
        wait_seconds: float = 30.0,
        fresh: bool = False,
        via: Optional[str] = None,
        heartbeat: bool = True,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> Lease:
        """Lease a clean database. With `run`, the same run, worker and alias get the same lease again (`fresh`: after a reset).

        The daemon lets one request wait `wait_seconds`; the client repeats it until the deadline. With `heartbeat=False` the
        caller renews and releases. Raises `PoolNotFound`, `TemplateNotFound`, `PoolExhausted`, … and `Unreachable`.
        """
        request = self._addressed(LeaseRequest(pool, fingerprint, run, worker, alias, holder, ttl_seconds, fresh, via))
        body = {**request.body(), "wait_seconds": wait_seconds}
        granted = self.call_through_restarts("POST", "/v1/leases", body, deadline_seconds).body
        return Lease(self, granted, heartbeat, request.via)

    def batch(
        self,
        requests: Sequence[LeaseRequest],
        wait_seconds: float = 30.0,
        heartbeat: bool = True,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> list[Lease]:
        """Lease all of them or none; the leases are in the order of the requests. Otherwise like `lease`."""
        requests = [self._addressed(request) for request in requests]
        body = {"leases": [request.body() for request in requests], "wait_seconds": wait_seconds}
        answer = self.call_through_restarts("POST", "/v1/leases/batch", body, deadline_seconds)
        return [Lease(self, granted, heartbeat, request.via) for granted, request in zip(answer.body["leases"], requests)]

    def ensure_template(
        self,
        pool: str,
        fingerprint: str,
        build: Callable[[str], None],
        *,
        holder: Optional[str] = None,
        inputs: Optional[dict[str, str]] = None,
        deadline_seconds: float = 600.0,
    ) -> TemplateReady:
        """Return when the template exists. Of all concurrent callers exactly one calls `build(url)`; the others wait.

        The client renews the build while it runs. If `build` raises, the client abandons the build with the text of the error
        and raises the error; the next caller builds. Raises `TemplateBuilding` if the build of another caller is not done at
        the deadline. `inputs` are what the fingerprint is made of, as `templates.inputs_of` returns them: the daemon then names
        those that have changed since the template before, at most 1,000 of at most 200 characters.
        """
        return ensure(self, pool, fingerprint, build, holder or holder_name(), inputs, deadline_seconds)

    def announce(self, run: str, pool: str, workers: int, fingerprint: Optional[str] = None, aliases: int = 1) -> dict[str, Any]:
        """Warm the pool for so many workers. Raises `CapacityExceeded` if the pool can never serve them."""
        body: dict[str, Any] = {"pool": pool, "workers": workers, "aliases": aliases}
        if fingerprint is not None:
            body["fingerprint"] = fingerprint
        answer: dict[str, Any] = self.call("PUT", f"/v1/runs/{segment('run', run)}", body)
        return answer

    def end_run(self, run: str) -> int:
        """End the run and its leases; it gets no more. Returns the number of leases that ended."""
        released: int = self.call("DELETE", f"/v1/runs/{segment('run', run)}", deadline_seconds=10.0)["released"]
        return released

    def report_run(
        self,
        run: str,
        *,
        pool: Optional[str] = None,
        seconds: Optional[dict[str, float]] = None,
        workers: Sequence[dict[str, Any]] = (),
        fingerprint_inputs: Optional[dict[str, str]] = None,
        holder: Optional[str] = None,
    ) -> None:
        """Report where the time of a run went (`seconds` by phase), also after its end. `runs` lists it for the pools that the
        run announced or leased from, and for `pool`. A worker is `{"worker", "peak_rss_mb", "connections"}`.
        """
        body = report_body(pool, seconds or {}, workers, fingerprint_inputs or {}, holder or holder_name())
        self.call("POST", report_path(run), body)

    def runs(self, pool: Optional[str] = None) -> list[dict[str, Any]]:
        """The live runs, and the last 200 that reported of each pool; with `pool` those of one pool."""
        query = f"?{urlencode({'pool': pool})}" if pool else ""
        runs: list[dict[str, Any]] = self.call("GET", f"/v1/runs{query}")["runs"]
        return runs

    def leases(self, **filters: str) -> list[dict[str, Any]]:
        """The leases, without credentials. `state` is `live` (default), `ended` or `all`; `pool` and `run` filter them."""
        query = f"?{urlencode(filters)}" if filters else ""
        leases: list[dict[str, Any]] = self.call("GET", f"/v1/leases{query}")["leases"]
        return leases

    def status(self) -> dict[str, Any]:
        """The daemon's status: daemon, server, pools, leases, waiters."""
        status: dict[str, Any] = self.call("GET", "/v1/status")
        return status

    def clone(self) -> Client:
        """A client of the same daemon with connections of its own."""
        return Client(self.url, self.token, self.via)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<pgdibs.Client of {self.url}>"

    def _addressed(self, request: LeaseRequest) -> LeaseRequest:
        """The request; without a `via` of its own it gets the client's."""
        return request if request.via is not None else replace(request, via=self.via)
