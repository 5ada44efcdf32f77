"""An HTTP server that gives scripted answers, and records the requests."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional

from pgdibs.skew import API_LEVEL


@dataclass
class Reply:
    """One answer; `text` instead of `body` if it is no JSON; with `hangs` there is none."""

    status: int = 200
    body: Any = None
    retry_after: Optional[str] = None
    text: Optional[str] = None
    hangs: bool = False
    api_level: Optional[int] = API_LEVEL


@dataclass
class ReceivedRequest:
    """One recorded request."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]
    time: float
    peer: int


@dataclass
class Scripted:
    """The server; it gives the replies in order, and repeats the last one."""

    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    requests: list[ReceivedRequest] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)
    """Set when a caller closes the connection of a request that hangs."""

    def __enter__(self) -> Scripted:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without the delay of Nagle's algorithm between small answers.
            disable_nagle_algorithm = True

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                reply = scripted.replies[min(len(scripted.requests), len(scripted.replies) - 1)]
                headers = {name.lower(): value for name, value in self.headers.items()}
                port = self.client_address[1]
                scripted.requests.append(ReceivedRequest(self.command, self.path, body, headers, time.monotonic(), port))
                if reply.hangs:
                    self.connection.settimeout(30)
                    self.rfile.read(1)
                    scripted.hung_up.set()
                    self.close_connection = True
                    return
                payload = (json.dumps(reply.body) if reply.text is None else reply.text).encode()
                if reply.status == 204:
                    # A client takes a body behind this status for the head of the next answer.
                    payload = b""
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json" if reply.text is None else "text/html")
                if reply.api_level is not None:
                    self.send_header("Pgdibs-Api", str(reply.api_level))
                if reply.retry_after is not None:
                    self.send_header("Retry-After", reply.retry_after)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"
