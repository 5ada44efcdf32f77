"""A daemon from before API levels: a proxy in front of today's daemon that hides the level and refuses fields and routes."""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional
from urllib.parse import urlsplit

ANSWER_SECONDS = 60.0


class OlderDaemon:
    """The proxy. It refuses fields whose names are in `unknown`, and paths with an end in `missing`; `refused` are those that it
    has refused."""

    def __init__(self, url: str) -> None:
        self.unknown: set[str] = set()
        self.missing: set[str] = set()
        self.refused: list[str] = []
        self._address = urlsplit(url).netloc
        older = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without the delay of Nagle's algorithm between small answers.
            disable_nagle_algorithm = True

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                status, headers, payload = older.answer(self.command, self.path, dict(self.headers.items()), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: Optional[bytes]) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        name = next((name for name in sorted(self.unknown) if body and has_field(json.loads(body), name)), None)
        if name is not None:
            self.refused.append(name)
            detail = f"{name}: unknown field `{name}`, expected one of `pool`, `fingerprint`"
            problem = {"code": "invalid_request", "status": 400, "title": "The request is not valid", "detail": detail}
            return 400, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode()
        route = next((end for end in self.missing if path.endswith(end)), None)
        if route is not None:
            self.refused.append(route)
            problem = {"code": "not_found", "status": 404, "title": "Not found", "detail": f"there is no route {path}"}
            return 404, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode()
        connection = http.client.HTTPConnection(self._address, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, {**headers, "Host": self._address})
            response = connection.getresponse()
            payload = response.read()
        finally:
            connection.close()
        known = {name: value for name in ("Content-Type", "Retry-After") if (value := response.headers.get(name))}
        if path == "/v1/status" and response.status == 200:
            status = json.loads(payload)
            status["daemon"].pop("api_level", None)
            payload = json.dumps(status).encode()
        return response.status, known, payload


def has_field(value: Any, name: str) -> bool:
    """Whether an object in it, at any depth, has a field of this name."""
    if isinstance(value, dict):
        return name in value or any(has_field(part, name) for part in value.values())
    return isinstance(value, list) and any(has_field(part, name) for part in value)
