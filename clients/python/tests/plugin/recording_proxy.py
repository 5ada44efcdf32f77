"""A TCP proxy in front of the daemon that records the requests; it passes bytes and ends of connections on as they come."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

REQUEST = re.compile(rb"(GET|PUT|POST|DELETE) (/\S*) HTTP/1\.1\r\n")


class RecordingProxy:
    """The proxy; `requests` are those that have come so far, with the time of each."""

    def __init__(self, daemon_url: str) -> None:
        address = urlsplit(daemon_url)
        self._daemon = (address.hostname or "", address.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[tuple[float, str]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def since(self, started: float, until: float = float("inf")) -> list[str]:
        """The requests that came between these times (seconds since the epoch); ids and fingerprints are stars."""
        found = [request for at, request in self.requests if started <= at < until]
        return [re.sub(r"[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f-]{27}", "*", request) for request in found]

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._daemon) as server:
            answers = threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True)
            answers.start()
            self._pass_on(client, server, True)
            answers.join()

    def _pass_on(self, one: socket.socket, other: socket.socket, is_request: bool) -> None:
        with suppress(OSError):
            while received := one.recv(65536):
                if is_request:
                    for method, path in REQUEST.findall(received):
                        self.requests.append((time.time(), f"{method.decode()} {path.decode()}"))
                other.sendall(received)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)
