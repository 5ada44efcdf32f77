"""URLs of leased databases in the forms that applications expect."""

from __future__ import annotations

from typing import Optional
from urllib.parse import parse_qsl, urlsplit

POSTGRES_SCHEMES = ("postgres", "postgresql", "pgsql", "psql", "postgis", "timescale", "timescalegis", "asyncpg", "psycopg")
"""What a URL that means Postgres starts with, before any `+driver`; the last ones are those of env parsers and of tools."""


def with_driver(url: str, driver: str) -> str:
    """`url` with the scheme `driver`, as in `postgresql+asyncpg`; the rest stays as it is, escapes included."""
    return f"{driver}://{url.partition('://')[2]}"


def retarget(existing: Optional[str], leased: str) -> str:
    """The leased database's URL, with the driver prefix and the query string that `existing` has.

    A parameter that both have is that of the leased one. When `existing` is empty or means no Postgres (`sqlite:///…`), the
    answer is `leased`.
    """
    has, target = urlsplit(existing or ""), urlsplit(leased)
    if has.scheme.partition("+")[0] not in POSTGRES_SCHEMES:
        return leased
    taken = {name for name, _value in parse_qsl(target.query, keep_blank_values=True)}
    kept = [
        part
        for part in has.query.split("&")
        if part and part.partition("=")[0] not in taken | {"host", "port", "dbname", "user", "password"}
    ]
    query = "&".join([*([target.query] if target.query else []), *kept])
    # By hand: urlunsplit leaves out the slashes of schemes that it does not know.
    return f"{has.scheme}://{target.netloc}{target.path}{'?' + query if query else ''}"
