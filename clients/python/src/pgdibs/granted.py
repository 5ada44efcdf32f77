"""The databases that the daemon has granted to this process: leases, kept databases, template builds.

The connection guard of the pytest plugin allows connections to them. An entry stays after its lease has ended, because the login
ends with the lease.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

DEFAULT_PORT = 5432

databases: set[tuple[str, int, str]] = set()
"""Host, port and name of each."""


def add(url: str) -> None:
    """Add the database of a URL that the daemon returned."""
    parts = urlsplit(url)
    databases.add((unquote(parts.hostname or ""), parts.port or DEFAULT_PORT, unquote(parts.path.lstrip("/"))))
