"""URLs of leased databases with the drivers and options that applications expect."""

from __future__ import annotations

import re
from typing import Optional
from urllib.parse import parse_qsl, urlsplit

DATABASE_SCHEMES = ("postgres", "postgresql", "pgsql", "psql", "postgis", "timescale", "timescalegis")
DRIVER_SCHEMES = ("asyncpg", "psycopg", "psycopg2", "postgresql_psycopg2")
POSTGRES_SCHEMES = frozenset((*DATABASE_SCHEMES, *DRIVER_SCHEMES))
"""The schemes of Postgres URLs, without `+driver`; the last ones come from env parsers and tools."""

TARGET_OPTIONS = frozenset(("host", "hostaddr", "port", "dbname", "user", "password"))
"""The options that name the server, the database and the login."""


URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9_+.-]*)://[^?#]*(?:\?(?P<query>[^#]*))?.*", re.DOTALL)
"""Any URL; `urlsplit` raises an error for some passwords."""

QUERY_PART = re.compile(r"([A-Za-z_][\w.-]*)(?:=[^@]*)?")
"""One option of a query string, unlike the rest of a password with a question mark."""


def scheme_of(url: str) -> str:
    """The scheme of `url` in lower case, as in `postgresql+asyncpg`; empty if `url` is no URL."""
    found = URL.fullmatch(url)
    return found["scheme"].lower() if found is not None else ""


def is_postgres(url: str) -> bool:
    """Whether the scheme of `url` names Postgres."""
    return scheme_of(url).partition("+")[0] in POSTGRES_SCHEMES


def driver_and_options(url: str) -> str:
    """The parts of a Postgres URL that another database can use: `scheme://`, and the options of its query string.

    Skips an option whose value names another variable (`${NAME}`, as in a `.env` file).
    """
    query = "&".join(part for part in _options(url) if "${" not in part)
    return f"{scheme_of(url)}://{'?' + query if query else ''}"


def _options(url: str) -> list[str]:
    """The options in the query string of `url` except `TARGET_OPTIONS`."""
    found = URL.fullmatch(url)
    parts = [(part, QUERY_PART.fullmatch(part)) for part in ((found["query"] if found else "") or "").split("&")]
    return [part for part, option in parts if option is not None and option[1] not in TARGET_OPTIONS]


def with_driver(url: str, driver: str) -> str:
    """`url` with the scheme `driver`, as in `postgresql+asyncpg`; the rest is unchanged, escapes included."""
    return f"{driver}://{url.partition('://')[2]}"


def retarget(existing: Optional[str], leased: str) -> str:
    """The URL of the leased database with the driver and the query string of `existing`.

    If both have a parameter, that of `leased` wins. Returns `leased` if `existing` is empty or no Postgres URL (`sqlite:///…`).
    """
    if not existing or not is_postgres(existing):
        return leased
    target = urlsplit(leased)
    leased_names = {name for name, _value in parse_qsl(target.query, keep_blank_values=True)}
    kept = [part for part in _options(existing) if part.partition("=")[0] not in leased_names]
    query = "&".join([*([target.query] if target.query else []), *kept])
    # Not by urlunsplit, which leaves out the slashes of schemes that it does not know.
    return f"{scheme_of(existing)}://{target.netloc}{target.path}{'?' + query if query else ''}"
