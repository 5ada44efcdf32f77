"""One HTTP request to the daemon, over a connection that each thread keeps. Proxies of the environment are never used."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import SplitResult, quote, urlsplit

from pgdibs.errors import InvalidRequest, PgdibsError, Unreachable

TIMEOUT_SECONDS = 60.0
"""How long to wait for an answer when the caller does not say."""


@dataclass(frozen=True)
class Answer:
    """What the daemon said; any status is an answer. `retry_after` is in seconds, None when the header is not there."""

    status: int
    body: Any
    retry_after: Optional[float]


class _Kept:
    """A connection that is closed when its thread ends, or its client is forgotten."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class Transport:
    """The connections to one address: one for each thread, made when first needed, never shared with a forked child."""

    def __init__(self, url: str, token: Optional[str]) -> None:
        self.url = url
        self._address = _checked(url)
        self._token = _checked_token(token)
        self._kept = threading.local()
        self._open: weakref.WeakSet[_Kept] = weakref.WeakSet()
        self._process = os.getpid()
        self._is_aborted = False
        self.has_been_answered = False
        """Whether there has been an answer yet; until then the address may simply be wrong."""

    def ask(self, method: str, path: str, body: Optional[dict[str, Any]], timeout: Optional[float]) -> Answer:
        """One request. Raises `Unreachable` when nobody answers within `timeout` seconds."""
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        seconds = TIMEOUT_SECONDS if timeout is None else timeout
        try:
            response, text = self._exchange(method, path, payload, headers, seconds)
        except BaseException as error:
            # Half an exchange may be on the wire, also when this is Ctrl-C; the daemon sees us hang up.
            self._drop_own()
            if self._is_aborted and not isinstance(error, PgdibsError):
                raise PgdibsError("the call was given up") from error
            if isinstance(error, (OSError, http.client.HTTPException)):
                raise Unreachable(self._nobody(error, seconds)) from error
            raise
        self.has_been_answered = True
        return Answer(response.status, self._decoded(response, text), _retry_after(response))

    def close(self) -> None:
        """Close this thread's connection; the next request opens a new one."""
        self._drop_own()

    def abort(self) -> None:
        """Hang up in all threads, also those that wait for an answer: their calls raise, as do all later ones."""
        self._is_aborted = True
        if os.getpid() != self._process:
            return
        for kept in list(self._open):
            sock = kept.connection.sock
            if sock is not None:
                with suppress(OSError):
                    # Unlike close(), this wakes a thread that reads.
                    sock.shutdown(socket.SHUT_RDWR)

    def _exchange(
        self, method: str, path: str, payload: Optional[bytes], headers: dict[str, str], timeout: float
    ) -> tuple[http.client.HTTPResponse, bytes]:
        while True:
            connection, is_kept = self._connection(timeout)
            try:
                connection.request(method, path, payload, headers)
                response = connection.getresponse()
                return response, response.read()
            except (http.client.RemoteDisconnected, ConnectionError):
                # A daemon closes a connection that was idle, or is another one since; only a new connection's end tells.
                if not is_kept:
                    raise
                self._drop_own()

    def _connection(self, timeout: float) -> tuple[http.client.HTTPConnection, bool]:
        if self._is_aborted:
            raise PgdibsError("this client was aborted; make a new one")
        if os.getpid() != self._process:
            # We are a forked child: the sockets are the parent's, who goes on using them.
            self._kept, self._open, self._process = threading.local(), weakref.WeakSet(), os.getpid()
        kept: Optional[_Kept] = getattr(self._kept, "own", None)
        if kept is not None and kept.connection.sock is not None:
            kept.connection.sock.settimeout(timeout)
            return kept.connection, True
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._address.hostname or "", self._address.port, timeout=timeout)
        self._kept.own = _Kept(connection)
        self._open.add(self._kept.own)
        return connection, False

    def _drop_own(self) -> None:
        kept: Optional[_Kept] = getattr(self._kept, "own", None)
        self._kept.own = None
        if kept is not None:
            kept.connection.close()

    def _decoded(self, response: http.client.HTTPResponse, text: bytes) -> Any:
        if not text:
            return None
        if "json" not in (response.headers.get("Content-Type") or ""):
            return {"detail": text[:2000].decode(errors="replace")}
        try:
            return json.loads(text)
        except ValueError as error:
            raise Unreachable(f"what answers at {self.url} is no pgdibs daemon: its answer is not JSON ({error})") from error

    def _nobody(self, error: Exception, seconds: float) -> str:
        if isinstance(error, socket.timeout):
            return f"no answer came from {self.url} within {seconds:.0f} s; look at the daemon's log, and at `pgdibs healthcheck`"
        if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
            return f"what answers at {self.url} is no pgdibs daemon ({error!r}); correct PGDIBS_URL"
        if isinstance(error, socket.gaierror):
            return f"the host of {self.url} is not known here ({error}); correct PGDIBS_URL"
        if type(error).__module__ == "ssl":
            return f"no TLS can be spoken with {self.url} ({error}); correct PGDIBS_URL, as `pgdibs serve` speaks plain http"
        return f"no pgdibs daemon answers at {self.url} ({error}); start one with `pgdibs serve`, or set PGDIBS_URL"


def segment(field: str, value: str) -> str:
    """A value as a part of a path. Raises `InvalidRequest` for one that would make it another path."""
    if value in ("", ".", ".."):
        raise InvalidRequest(
            f"{field} is `{value}`, which names nothing; give it a name (invalid_request)", "invalid_request", 400
        )
    return quote(value, safe="")


def _checked(url: str) -> SplitResult:
    try:
        address = urlsplit(url)
        is_good = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        is_good = False
    if not is_good or address.path.strip("/") or address.query or address.username is not None:
        raise ValueError(
            f"`{url}` is no address of a pgdibs daemon; PGDIBS_URL is scheme, host and port as in http://127.0.0.1:7432, "
            "and a token goes into PGDIBS_TOKEN"
        )
    return address


def _checked_token(token: Optional[str]) -> Optional[str]:
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError(
            "the token is no token of a pgdibs daemon: it has visible ASCII characters without blanks; look at PGDIBS_TOKEN"
        )
    return token


def _retry_after(response: http.client.HTTPResponse) -> Optional[float]:
    value = response.headers.get("Retry-After")
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        # The other form of the header is a date; the daemon never sends it, something between us might.
        return 1.0
