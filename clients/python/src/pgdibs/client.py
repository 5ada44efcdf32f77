"""The client: pools, templates, leases and runs of one daemon."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Optional
from urllib.parse import urlencode

from pgdibs.errors import PgdibsError, Unreachable, of_answer
from pgdibs.lease import DEADLINE_SECONDS, Lease
from pgdibs.templates import TemplateReady, ensure
from pgdibs.transport import Answer, Transport, segment

DEFAULT_URL = "http://127.0.0.1:7432"

AWAY_SECONDS = 30.0
"""How long a daemon that has answered before may be away (a restart) before a call gives up."""

AWAY_PAUSE_SECONDS = 0.2
"""Between two tries while it is away."""

ANSWER_SECONDS = 30.0
"""How long an answer may take beyond the wait that the request asks for."""


@dataclass(frozen=True)
class LeaseRequest:
    """What one lease of a batch shall be; the fields are those of `Client.lease`."""

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
        """As the API takes it."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return {"holder": holder_name(self.worker), **said}


def holder_name(worker: Optional[str] = None) -> str:
    """Who we are, for people who read the daemon's status: host, process, worker."""
    name = f"{socket.gethostname()}/{os.getpid()}"
    return f"{name}/{worker}" if worker else name


class Client:
    """The daemon at `url` (else PGDIBS_URL, else http://127.0.0.1:7432), with `token` (else PGDIBS_TOKEN).

    `via` (else PGDIBS_VIA) picks one of the daemon's advertised addresses of the server for whatever is handed out to us: inside
    another network the server has another name. No socket is opened before the first call. It may be used by any number of
    threads, and by forked children.
    Raises `ValueError` for a `url` that is no address.
    """

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, via: Optional[str] = None) -> None:
        self.url = (url or os.environ.get("PGDIBS_URL") or DEFAULT_URL).rstrip("/")
        self.token = token or os.environ.get("PGDIBS_TOKEN") or None
        """What the daemon is shown; None when there is none."""
        self.via = via or os.environ.get("PGDIBS_VIA") or None
        """The name of an advertised address; None for the default one."""
        self._transport = Transport(self.url, self.token)

    def ask(self, method: str, path: str, body: Optional[dict[str, Any]] = None, timeout: Optional[float] = None) -> Answer:
        """One request; any status is an answer. Raises `Unreachable` when none comes within `timeout` seconds (default 60)."""
        return self._transport.ask(method, path, body, timeout)

    def call(
        self, method: str, path: str, body: Optional[dict[str, Any]] = None, deadline_seconds: float = DEADLINE_SECONDS
    ) -> Any:
        """The JSON of a good answer. Asks again exactly when the answer has a `Retry-After`, for at most `deadline_seconds`.

        Raises the typed `PgdibsError` of any other answer, and of the last one when the deadline comes.
        """
        return self._final(method, path, body, deadline_seconds, away_seconds=0.0).body

    def call_through_restarts(
        self, method: str, path: str, body: Optional[dict[str, Any]], deadline_seconds: float = DEADLINE_SECONDS
    ) -> Answer:
        """Like `call`, for requests that may be repeated: a daemon that has answered before may be away for 30 seconds."""
        return self._final(method, path, body, deadline_seconds, AWAY_SECONDS)

    def put_pool(self, pool: str, **settings: Any) -> dict[str, Any]:
        """Make a pool, or change its settings (`warm`, `max`, `spares`, …); those not named stay as they are."""
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
        """A clean database, for us alone; with `run` the same run, worker and alias get the same one again (`fresh`: reset).

        One request waits `wait_seconds` at the daemon, and again until the deadline. `heartbeat=False` leaves renewing and
        releasing to the caller. Raises `PoolNotFound`, `TemplateNotFound`, `PoolExhausted`, … and `Unreachable`.
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
        """All of them or none, in their order; otherwise like `lease`."""
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
        deadline_seconds: float = 600.0,
    ) -> TemplateReady:
        """Come back when the template exists; of all that call this at once exactly one calls `build(url)`, the others wait.

        The build is renewed while it runs. When `build` raises, the build is given up with the error's text, and the error
        goes on; then the next caller builds. Raises `TemplateBuilding` when somebody else's build takes until the deadline.
        """
        return ensure(self, pool, fingerprint, build, holder or holder_name(), deadline_seconds)

    def announce(self, run: str, pool: str, workers: int, fingerprint: Optional[str] = None, aliases: int = 1) -> dict[str, Any]:
        """Warm the pool for so many workers. Raises `CapacityExceeded` when they can never fit."""
        body: dict[str, Any] = {"pool": pool, "workers": workers, "aliases": aliases}
        if fingerprint is not None:
            body["fingerprint"] = fingerprint
        answer: dict[str, Any] = self.call("PUT", f"/v1/runs/{segment('run', run)}", body)
        return answer

    def end_run(self, run: str) -> int:
        """Give back everything the run holds, and refuse it more; the number of leases that this ended."""
        released: int = self.call("DELETE", f"/v1/runs/{segment('run', run)}", deadline_seconds=10.0)["released"]
        return released

    def leases(self, **filters: str) -> list[dict[str, Any]]:
        """The leases without credentials, live ones unless `state` is `ended` or `all`; `pool` and `run` narrow them down."""
        query = f"?{urlencode(filters)}" if filters else ""
        leases: list[dict[str, Any]] = self.call("GET", f"/v1/leases{query}")["leases"]
        return leases

    def status(self) -> dict[str, Any]:
        """Everything at a glance: daemon, server, pools, leases, waiters."""
        status: dict[str, Any] = self.call("GET", "/v1/status")
        return status

    def close(self) -> None:
        """Close this thread's connection. Leases are not released by this; a later call opens a new one."""
        self._transport.close()

    def abort(self) -> None:
        """Hang up in all threads, for good: calls under way raise, as do later ones. The daemon forgets who waits."""
        self._transport.abort()

    def twin(self) -> Client:
        """Another client of the same daemon, with connections of its own."""
        return Client(self.url, self.token, self.via)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<pgdibs.Client of {self.url}>"

    def _addressed(self, request: LeaseRequest) -> LeaseRequest:
        """The request, which gets our own `via` when it has none."""
        return request if request.via is not None else replace(request, via=self.via)

    def _final(
        self, method: str, path: str, body: Optional[dict[str, Any]], deadline_seconds: float, away_seconds: float
    ) -> Answer:
        started = time.monotonic()
        deadline, away_since = started + deadline_seconds, None
        while True:
            now = time.monotonic()
            wait_seconds = 0.0
            if body is not None and "wait_seconds" in body:
                wait_seconds = max(0.0, min(body["wait_seconds"], deadline - now))
                body = {**body, "wait_seconds": wait_seconds}
            try:
                answer = self.ask(method, path, body, wait_seconds + ANSWER_SECONDS)
            except Unreachable:
                away_since = away_since or now
                give_up = min(away_since + away_seconds, deadline)
                if not self._transport.has_been_answered or time.monotonic() + AWAY_PAUSE_SECONDS > give_up:
                    raise
                # The pause between two tries to reach a daemon that is being restarted; bounded by AWAY_SECONDS.
                time.sleep(AWAY_PAUSE_SECONDS)
                continue
            away_since = None
            if answer.retry_after is None:
                if answer.status >= 400:
                    raise of_answer(answer.status, answer.body)
                return answer
            if time.monotonic() + answer.retry_after > deadline:
                raise _given_up(answer, time.monotonic() - started)
            # The daemon says how long.
            time.sleep(answer.retry_after)


def _given_up(answer: Answer, seconds: float) -> PgdibsError:
    """The last answer as an error; a 202 is somebody else's build that has not ended."""
    problem = dict(answer.body) if isinstance(answer.body, dict) else {}
    if answer.status == 202:
        holder, since = problem.get("holder") or "somebody", problem.get("since") or "a while ago"
        problem["code"] = "template_building"
        problem["detail"] = f"{holder} has been building this template since {since} and is not done"
    return of_answer(answer.status, problem, asked_for=f"asked for {seconds:.0f} s")
