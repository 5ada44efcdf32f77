"""What one test process takes: its memory, and its connections to the leased databases."""

from __future__ import annotations

import os
import resource
import socket
import stat
import sys
import time
from contextlib import suppress

EVERY_SECONDS = 0.05
"""The connections are counted at most so often: it costs some system calls for each open file."""


class Footprint:
    """The connections of this process, counted when it is about to open one and when a test has just run."""

    def __init__(self) -> None:
        self.connections = 0
        """The most at once so far."""
        self._next = 0.0

    def count(self, ports: set[int], opening: int = 0) -> None:
        """Count the connections to these ports and those that are about to be opened, unless that has just been done."""
        now = time.monotonic()
        if now >= self._next and ports:
            self._next = now + EVERY_SECONDS
            self.connections = max(self.connections, count_connections(ports) + opening)


def peak_rss_mb() -> int:
    """The most memory that this process has used, in MB of 1,000,000 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024) // 1_000_000


def count_connections(ports: set[int]) -> int:
    """The sockets of this process that are connected to one of these ports, by TCP or to a Unix socket of Postgres."""
    count = 0
    with suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with suppress(OSError, ValueError):
                count += _port_of(int(name)) in ports
    return count


def _port_of(descriptor: int) -> int:
    """The port of the peer of a socket; 0 if it is no connected socket. Raises `OSError` if it is closed meanwhile."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return 0
    # Not `socket.socket`, which plugins such as pytest-socket replace. `detach` leaves the descriptor open.
    found = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    try:
        peer = found.getpeername()
    finally:
        found.detach()
    if isinstance(peer, tuple):
        return int(peer[1])
    text = os.fsdecode(peer)
    return int(text.rpartition(".s.PGSQL.")[2]) if ".s.PGSQL." in text else 0
