"""URLs of leased databases in the forms that applications expect."""

from __future__ import annotations

import re
from typing import Optional
from urllib.parse import parse_qsl, urlsplit

DATABASE_SCHEMES = ("postgres", "postgresql", "pgsql", "psql", "postgis", "timescale", "timescalegis")
DRIVER_SCHEMES = ("asyncpg", "psycopg", "psycopg2", "postgresql_psycopg2")
POSTGRES_SCHEMES = frozenset((*DATABASE_SCHEMES, *DRIVER_SCHEMES))
"""What a URL that means Postgres starts with, before any `+driver`; the last ones are those of env parsers and of tools."""

WHERE = frozenset(("host", "hostaddr", "port", "dbname", "user", "password"))
"""The options that say where to connect, and as whom."""


URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9_+.-]*)://[^?#]*(?:\?(?P<query>[^#]*))?.*", re.DOTALL)
"""A URL from outside; `urlsplit` raises an error for some passwords."""

QUERY_PART = re.compile(r"([A-Za-z_][\w.-]*)(?:=[^@]*)?")
"""One option of a query string, and not the rest of a password that holds a question mark."""


def scheme_of(url: str) -> str:
    """The scheme of `url` in lower case, as in `postgresql+asyncpg`; empty when `url` is no URL."""
    found = URL.fullmatch(url)
    return found["scheme"].lower() if found is not None else ""


def is_postgres(url: str) -> bool:
    """Whether the scheme of `url` names Postgres."""
    return scheme_of(url).partition("+")[0] in POSTGRES_SCHEMES


def driver_and_options(url: str) -> str:
    """What of a Postgres URL may be used with another database: `scheme://`, and the options of its query string.

    An option whose value names another variable (`${NAME}`, as in a `.env` file) is left out.
    """
    query = "&".join(part for part in _options(url) if "${" not in part)
    return f"{scheme_of(url)}://{'?' + query if query else ''}"


def _options(url: str) -> list[str]:
    """The options in the query string of `url` that do not say where to connect."""
    found = URL.fullmatch(url)
    parts = [(part, QUERY_PART.fullmatch(part)) for part in ((found["query"] if found else "") or "").split("&")]
    return [part for part, option in parts if option is not None and option[1] not in WHERE]


def with_driver(url: str, driver: str) -> str:
    """`url` with the scheme `driver`, as in `postgresql+asyncpg`; the rest stays as it is, escapes included."""
    return f"{driver}://{url.partition('://')[2]}"


def retarget(existing: Optional[str], leased: str) -> str:
    """The leased database's URL, with the driver prefix and the query string that `existing` has.

    A parameter that both have is that of the leased one. When `existing` is empty or means no Postgres (`sqlite:///…`), the
    answer is `leased`.
    """
    if not existing or not is_postgres(existing):
        return leased
    target = urlsplit(leased)
    taken = {name for name, _value in parse_qsl(target.query, keep_blank_values=True)}
    kept = [part for part in _options(existing) if part.partition("=")[0] not in taken]
    query = "&".join([*([target.query] if target.query else []), *kept])
    # By hand: urlunsplit leaves out the slashes of schemes that it does not know.
    return f"{scheme_of(existing)}://{target.netloc}{target.path}{'?' + query if query else ''}"
