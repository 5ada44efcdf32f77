"""HTTP requests to the daemon over one connection per thread. Ignores the proxies of the environment."""

from __future__ import annotations

import http.client
import json
import os
import selectors
import socket
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import SplitResult, quote, urlsplit

from pgdibs.errors import InvalidRequest, PgdibsError, Unreachable

TIMEOUT_SECONDS = 60.0
"""The default timeout of a request."""


@dataclass(frozen=True)
class Answer:
    """An answer of any status. `retry_after` is in seconds, None without the header; `api_level` is 0 without the header."""

    status: int
    body: Any
    retry_after: Optional[float]
    api_level: int = 0


class _Connection:
    """A connection that closes when its thread ends or its client is garbage-collected."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection
        # Not __del__: in a reference cycle the garbage collector may finalize the socket first, which warns that it is unclosed.
        weakref.finalize(self, connection.close)


class Transport:
    """The connections to one address: one per thread, opened by its first request, not shared with a forked child."""

    def __init__(self, url: str, token: Optional[str]) -> None:
        self.url = url
        self._address = _parsed_address(url)
        self._token = _validated_token(token)
        self._kept = threading.local()
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._sent: list[_Connection] = []
        """The connections of `send`."""
        self._process = os.getpid()
        self._is_aborted = False
        self.has_been_answered = False
        """Whether any request has got an answer; until then the address may be wrong."""

    def ask(self, method: str, path: str, body: Optional[dict[str, Any]], timeout: Optional[float]) -> Answer:
        """Send one request. Raises `Unreachable` without an answer within `timeout` seconds."""
        payload, headers = self._encoded(body)
        seconds = TIMEOUT_SECONDS if timeout is None else timeout
        try:
            response, text = self._exchange(method, path, payload, headers, seconds)
        except BaseException as error:
            # The exchange may be incomplete, also after Ctrl-C, so the connection cannot be used again.
            self._drop_own()
            if self._is_aborted and not isinstance(error, PgdibsError):
                raise PgdibsError("the call was aborted") from error
            if isinstance(error, (OSError, http.client.HTTPException)):
                raise Unreachable(self._unreachable(error, seconds)) from error
            raise
        self.has_been_answered = True
        return Answer(response.status, self._decoded(response, text), _retry_after(response), _api_level(response))

    def send(self, method: str, path: str, body: Optional[dict[str, Any]], timeout: float, *, is_last: bool) -> None:
        """Send one request and do not wait for the answer. Raises `Unreachable` if it was not sent within `timeout` seconds.

        The connection serves no other request, and stays open until the process ends or the client is garbage-collected. It is
        the one of this thread if the request is its last (`is_last`), otherwise a new one: plugins such as pytest-socket may
        forbid new sockets.
        """
        payload, headers = self._encoded(body)
        kept = self._take_own() if is_last else None
        used = kept or _Connection(self._new_connection(timeout))
        try:
            used.connection.request(method, path, payload, headers)
        except (OSError, http.client.HTTPException) as error:
            used.connection.close()
            raise Unreachable(self._unreachable(error, timeout)) from error
        self._sent.append(used)

    def close(self) -> None:
        """Close the connection of this thread; its next request opens a new one."""
        self._drop_own()

    def abort(self) -> None:
        """Close the connections of all threads. Calls that wait for an answer raise, as do all later ones."""
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
                # The daemon may have closed an idle connection, or restarted; only the failure of a new connection counts.
                if not is_kept:
                    raise
                self._drop_own()

    def _connection(self, timeout: float) -> tuple[http.client.HTTPConnection, bool]:
        if self._is_aborted:
            raise PgdibsError("this client was aborted; make a new one")
        if os.getpid() != self._process:
            # In a forked child the sockets belong to the parent, which still uses them.
            self._kept, self._open, self._process = threading.local(), weakref.WeakSet(), os.getpid()
        kept: Optional[_Connection] = getattr(self._kept, "own", None)
        if kept is not None and kept.connection.sock is not None:
            kept.connection.sock.settimeout(timeout)
            return kept.connection, True
        connection = self._new_connection(timeout)
        self._kept.own = _Connection(connection)
        self._open.add(self._kept.own)
        return connection, False

    def _new_connection(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        return kind(self._address.hostname or "", self._address.port, timeout=timeout)

    def _encoded(self, body: Optional[dict[str, Any]]) -> tuple[Optional[bytes], dict[str, str]]:
        """The body of a request as JSON, and its headers."""
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is None:
            return None, headers
        return json.dumps(body).encode(), {**headers, "Content-Type": "application/json"}

    def _take_own(self) -> Optional[_Connection]:
        """The connection of this thread, which `ask` does not use any more; None without one, or if the daemon has closed it."""
        kept: Optional[_Connection] = getattr(self._kept, "own", None)
        if kept is None or kept.connection.sock is None or os.getpid() != self._process:
            return None
        with selectors.DefaultSelector() as selector:
            selector.register(kept.connection.sock, selectors.EVENT_READ)
            # An idle connection has nothing to read but its end.
            if selector.select(0):
                return None
        self._kept.own = None
        return kept

    def _drop_own(self) -> None:
        kept: Optional[_Connection] = getattr(self._kept, "own", None)
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
            raise Unreachable(
                f"the program that answers at {self.url} is no pgdibs daemon: its answer is not JSON ({error})"
            ) from error

    def _unreachable(self, error: Exception, seconds: float) -> str:
        if isinstance(error, socket.timeout):
            return f"no answer came from {self.url} within {seconds:.0f} s; see the daemon's log, and `pgdibs healthcheck`"
        if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
            return f"the program that answers at {self.url} is no pgdibs daemon ({error!r}); correct PGDIBS_URL"
        if isinstance(error, socket.gaierror):
            return f"the host of {self.url} cannot be resolved ({error}); correct PGDIBS_URL"
        if type(error).__module__ == "ssl":
            return f"the TLS handshake with {self.url} failed ({error}); correct PGDIBS_URL: `pgdibs serve` speaks plain http"
        return f"no pgdibs daemon answers at {self.url} ({error}); start one with `pgdibs serve`, or set PGDIBS_URL"


def segment(field: str, value: str) -> str:
    """A value as one segment of a path. Raises `InvalidRequest` for a value that would change the path."""
    if value in ("", ".", ".."):
        raise InvalidRequest(f"{field} is `{value}`, which is no name; give it a name (invalid_request)", "invalid_request", 400)
    return quote(value, safe="")


def _parsed_address(url: str) -> SplitResult:
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


def _validated_token(token: Optional[str]) -> Optional[str]:
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError(
            "the token is no token of a pgdibs daemon: one has visible ASCII characters without blanks; correct PGDIBS_TOKEN"
        )
    return token


def _api_level(response: http.client.HTTPResponse) -> int:
    value = response.headers.get("Pgdibs-Api") or ""
    return int(value) if value.isascii() and value.isdigit() else 0


def _retry_after(response: http.client.HTTPResponse) -> Optional[float]:
    value = response.headers.get("Retry-After")
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        # A date, the other form of the header, can come only from a proxy in between.
        return 1.0
