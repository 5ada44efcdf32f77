"""Calls to one daemon: requests, and their repetition after an answer with `Retry-After`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Optional

from pgdibs import skew
from pgdibs.errors import PgdibsError, Unreachable, of_answer
from pgdibs.transport import Answer, Transport

DEFAULT_URL = "http://127.0.0.1:7432"

DEADLINE_SECONDS = 180.0
"""How long a call repeats its request while the answers have `Retry-After`."""

UNREACHABLE_SECONDS = 30.0
"""How long a daemon that has answered before may be unreachable (a restart) before a call raises."""

RETRY_PAUSE_SECONDS = 0.2
"""The pause between two attempts while the daemon is unreachable."""

STATUS_SECONDS = 5.0
"""How long the question for the daemon's version may take."""

FIRST_WAIT_SECONDS = 1.0
"""How long the first request waits at the daemon if the caller wants to know what it waits for (`on_wait`)."""

ANSWER_SECONDS = 30.0
"""How long an answer may take beyond the wait that the request asks for."""


class Caller:
    """The calls that `Client`, its leases and its template builds make; `Client` describes the arguments."""

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, via: Optional[str] = None) -> None:
        self.url = (url or os.environ.get("PGDIBS_URL") or DEFAULT_URL).rstrip("/")
        self.token = token or os.environ.get("PGDIBS_TOKEN") or None
        """The token that each request carries; None when there is none."""
        self.via = via or os.environ.get("PGDIBS_VIA") or None
        """The name of an advertised address; None for the default one."""
        self.on_wait: Optional[Callable[[str, float], None]] = None
        """Called when an answer says to wait, before the next request: with the daemon's sentence and the seconds until now."""
        self._transport = Transport(self.url, self.token)

    @property
    def has_been_answered(self) -> bool:
        """Whether any request has got an answer."""
        return self._transport.has_been_answered

    def ask(self, method: str, path: str, body: Optional[dict[str, Any]] = None, timeout: Optional[float] = None) -> Answer:
        """Send one request; any status is an answer. Raises `Unreachable` without one within `timeout` seconds (default 60)."""
        return self._transport.ask(method, path, body, timeout)

    def send(
        self, method: str, path: str, body: Optional[dict[str, Any]], timeout: float = ANSWER_SECONDS, *, is_last: bool = False
    ) -> None:
        """Send one request and do not wait for the answer. Raises `Unreachable` if it was not sent within `timeout` seconds.

        `is_last`: this thread sends no more requests, so its connection is free for this one.
        """
        self._transport.send(method, path, body, timeout, is_last=is_last)

    def call(
        self, method: str, path: str, body: Optional[dict[str, Any]] = None, deadline_seconds: float = DEADLINE_SECONDS
    ) -> Any:
        """The JSON of a successful answer. Repeats the request if the answer has a `Retry-After`, for at most `deadline_seconds`.

        Raises the typed `PgdibsError` of any other answer, or of the last answer at the deadline.
        """
        return self._final(method, path, body, deadline_seconds, unreachable_seconds=0.0).body

    def call_through_restarts(
        self,
        method: str,
        path: str,
        body: Optional[dict[str, Any]],
        deadline_seconds: float = DEADLINE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> Answer:
        """Like `call`, for idempotent requests: a daemon that has answered before may be unreachable for 30 seconds.

        `answer_seconds`: how long an answer may take beyond the wait that the request asks for.
        """
        return self._final(method, path, body, deadline_seconds, UNREACHABLE_SECONDS, answer_seconds)

    def close(self) -> None:
        """Close this thread's connection. Leases are not released by this; a later call opens a new connection."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connections of all threads for good. Running and later calls raise; the daemon cancels their waits."""
        self._transport.abort()

    def _final(
        self,
        method: str,
        path: str,
        body: Optional[dict[str, Any]],
        deadline_seconds: float,
        unreachable_seconds: float,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> Answer:
        started = time.monotonic()
        deadline, unreachable_since = started + deadline_seconds, None
        longest_wait = (body or {}).get("wait_seconds", 0.0)
        next_wait = longest_wait if self.on_wait is None else FIRST_WAIT_SECONDS
        while True:
            now = time.monotonic()
            wait_seconds = max(0.0, min(next_wait, longest_wait, deadline - now))
            if body is not None and "wait_seconds" in body:
                body = {**body, "wait_seconds": wait_seconds}
            try:
                answer = self.ask(method, path, body, wait_seconds + answer_seconds)
            except Unreachable:
                unreachable_since = unreachable_since or now
                give_up = min(unreachable_since + unreachable_seconds, deadline)
                if not self._transport.has_been_answered or time.monotonic() + RETRY_PAUSE_SECONDS > give_up:
                    raise
                # The pause between two attempts to reach a daemon that restarts; bounded by UNREACHABLE_SECONDS.
                time.sleep(RETRY_PAUSE_SECONDS)
                continue
            unreachable_since = None
            if answer.retry_after is None:
                if answer.status < 400:
                    return answer
                rest = skew.without_refused(body, answer.body)
                if rest == body:
                    raise self._error(method, path, answer)
                body = rest
                continue
            if time.monotonic() + answer.retry_after > deadline:
                raise _given_up(answer, time.monotonic() - started)
            if self.on_wait is not None:
                self.on_wait(_given_up(answer, time.monotonic() - started).detail, time.monotonic() - started)
                next_wait = longest_wait
            # The daemon names the pause.
            time.sleep(answer.retry_after)

    def _error(self, method: str, path: str, answer: Answer) -> PgdibsError:
        """The typed error; if an older daemon does not know part of the call, its sentence names both versions."""
        error = of_answer(answer.status, answer.body)
        missing = skew.missing(method, path, answer.body)
        if missing is None or answer.api_level >= skew.API_LEVEL:
            return error
        sentence = skew.sentence(missing, self._daemon_version(), answer.api_level)
        return type(error)(sentence, error.code, error.status, error.detail)

    def _daemon_version(self) -> str:
        try:
            return str(self.ask("GET", "/v1/status", timeout=STATUS_SECONDS).body["daemon"]["version"])
        except (PgdibsError, LookupError, TypeError):
            return "of an unknown version"


def _given_up(answer: Answer, seconds: float) -> PgdibsError:
    """The last answer as an error; a 202 means that another process is still building."""
    problem = dict(answer.body) if isinstance(answer.body, dict) else {}
    if answer.status == 202:
        holder, since = problem.get("holder") or "another process", problem.get("since") or "an unknown time"
        problem["code"] = "template_building"
        problem["detail"] = f"{holder} has been building this template since {since} and is not done"
    return of_answer(answer.status, problem, waited=f"asked for {seconds:.0f} s")
