"""An HTTP server that answers what a test says, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional


@dataclass
class Reply:
    """One answer; `text` instead of `body` for what is no JSON; `hangs` until the server ends."""

    status: int = 200
    body: Any = None
    retry_after: Optional[str] = None
    text: Optional[str] = None
    hangs: bool = False


@dataclass
class ReceivedRequest:
    """One request."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]
    at: float
    peer: int


@dataclass
class Scripted:
    """Answers are given in their order, the last one again and again."""

    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    asked: list[ReceivedRequest] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)
    """Set when a caller that was made to wait went away."""

    def __enter__(self) -> Scripted:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Answers are small and the next request waits for them.
            disable_nagle_algorithm = True

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                reply = scripted.replies[min(len(scripted.asked), len(scripted.replies) - 1)]
                headers = {name.lower(): value for name, value in self.headers.items()}
                port = self.client_address[1]
                scripted.asked.append(ReceivedRequest(self.command, self.path, body, headers, time.monotonic(), port))
                if reply.hangs:
                    self.connection.settimeout(30)
                    self.rfile.read(1)
                    scripted.hung_up.set()
                    self.close_connection = True
                    return
                payload = (json.dumps(reply.body) if reply.text is None else reply.text).encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json" if reply.text is None else "text/html")
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
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"
