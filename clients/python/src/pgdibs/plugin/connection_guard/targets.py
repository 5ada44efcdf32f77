"""Resolves the servers and databases of a connection attempt by the rules of libpq, and compares them."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qsl, unquote, urlsplit

from pgdibs.urls import POSTGRES_SCHEMES

DEFAULT_PORT = "5432"

VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "service": "PGSERVICE",
    "servicefile": "PGSERVICEFILE",
}
"""The libpq parameters that determine the target of a connection, and the variable of each for a missing parameter."""


class Unresolved(Exception):
    """The target of the connection cannot be determined; `str()` says why."""


@dataclass(frozen=True)
class Target:
    """A server and database that a connection attempt would try."""

    host: str
    """A name, an address, or the directory of a Unix socket; empty for libpq's default socket."""
    port: str
    database: str
    address: str = ""
    """The address of `host`, if it was given or is resolved."""

    def __str__(self) -> str:
        return f"{self.host or self.address or 'the local socket'}:{self.port}/{self.database}"

    @property
    def is_socket(self) -> bool:
        return not self.address and (not self.host or self.host.startswith(("/", "@")))

    @property
    def is_local(self) -> bool:
        """Whether it is this machine, through a Unix socket or a loopback address."""
        return self.is_socket or _is_loopback(self.address or self.host)


def resolve(parameters: Mapping[str, Any], lookup: Callable[[str], Optional[str]]) -> list[Target]:
    """The targets of libpq parameters; `lookup` reads an environment variable. Raises `Unresolved`.

    An empty parameter means libpq's default, not the variable.
    """
    given = {name: _text(value) for name, value in parameters.items() if name in VARIABLES and value is not None}
    service = given.get("service", lookup("PGSERVICE"))
    if service:
        given = {**_service(service, given.get("servicefile") or lookup("PGSERVICEFILE"), lookup), **given}

    def value(name: str) -> str:
        found = given.get(name)
        return found if found is not None else lookup(VARIABLES[name]) or ""

    database = value("dbname") or value("user") or _os_user()
    addresses, hosts, ports = (value(name).split(",") for name in ("hostaddr", "host", "port"))
    count = max(len(addresses), len(hosts))
    if len(addresses) > 1 and len(hosts) > 1 and len(addresses) != len(hosts):
        raise Unresolved(f"{len(hosts)} hosts and {len(addresses)} addresses were given")
    if len(ports) not in (1, count):
        raise Unresolved(f"{count} hosts and {len(ports)} ports were given")

    def nth(values: Sequence[str], number: int) -> str:
        return values[number].strip() if number < len(values) else ""

    return [
        Target(
            nth(hosts, number),
            (ports[0] if len(ports) == 1 else ports[number]).strip() or DEFAULT_PORT,
            database,
            nth(addresses, number),
        )
        for number in range(count)
    ]


def of_url(url: str) -> Optional[Target]:
    """The first target of a URL in any driver's spelling; None if it is no Postgres URL or names no database."""
    try:
        parts = urlsplit(url.strip())
        scheme, path, host = parts.scheme.lower(), unquote(parts.path.lstrip("/")), parts.netloc.rpartition("@")[2]
        if scheme.partition("+")[0] not in POSTGRES_SCHEMES or not path:
            return None
        options = dict(parse_qsl(parts.query))
        host, port = _split_port(host.split(",")[0])
    except ValueError:
        return None
    host = host or options.get("host", "").split(",")[0]
    return Target(host, port or options.get("port", "").split(",")[0] or DEFAULT_PORT, path, options.get("hostaddr", ""))


def is_same(target: Target, host: str, port: int, database: str) -> bool:
    """Whether the target is this database. Resolves names only if port and database are equal and the hosts differ."""
    if target.database != database or target.port != str(port):
        return False
    other = Target(host, str(port), database)
    if target.is_local and other.is_local:
        return True
    if not target.is_socket and _canonical(target.address or target.host) == _canonical(host):
        return True
    if target.is_socket or other.is_socket:
        return False
    reached = _addresses(target)
    return bool(reached) and reached <= _addresses(other)


@dataclass(frozen=True)
class Exemption:
    """One entry of `pgdibs_allow`."""

    host: str
    port: str
    database: str

    ENTRY = re.compile(r"(?P<host>.+):(?P<port>[^:/]+)/(?P<database>[^/]+)")

    @classmethod
    def parse(cls, entry: str) -> Optional[Exemption]:
        """Parse `host:port/database`, where each part is a glob; None for any other text."""
        found = cls.ENTRY.fullmatch(entry)
        return cls(found["host"].strip("[]").lower(), found["port"], found["database"]) if found else None

    def covers(self, target: Target) -> bool:
        """Whether the entry matches the target, with any spelling of its host."""
        from fnmatch import fnmatchcase

        spellings = {_canonical(target.host), _canonical(target.address)} - {""}
        if target.is_local:
            spellings |= {"localhost", "127.0.0.1", "::1"}
        return (
            fnmatchcase(target.port, self.port)
            and fnmatchcase(target.database, self.database)
            and any(fnmatchcase(spelling, self.host) for spelling in spellings)
        )


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _split_port(host: str) -> tuple[str, str]:
    if host.startswith("["):
        address, _, rest = host[1:].partition("]")
        return address, rest.lstrip(":")
    name, _, port = host.partition(":")
    return unquote(name), port


def _os_user() -> str:
    try:
        # Imported here, because the guard has to find the user of the operating system only for a few connections.
        import getpass

        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise Unresolved("no database and no user was given, and the operating system has no user name") from error


def _service(name: str, file: Optional[str], lookup: Callable[[str], Optional[str]]) -> dict[str, str]:
    """The parameters of this section of the connection service file."""
    candidates = [Path(file) if file else Path.home() / ".pg_service.conf"]
    directory = lookup("PGSYSCONFDIR")
    if directory:
        candidates.append(Path(directory) / "pg_service.conf")
    for path in candidates:
        if not path.is_file():
            continue
        try:
            entries = _section(path.read_text(), name)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise Unresolved(f"service `{name}`: {path} cannot be read") from error
        if entries is not None:
            if any(key.startswith("ldap") for key in entries):
                raise Unresolved(f"service `{name}` in {path} is looked up by LDAP")
            return {key: value for key, value in entries.items() if key in VARIABLES}
    raise Unresolved(f"service `{name}` is in none of {', '.join(map(str, candidates))}")


def _section(text: str, name: str) -> Optional[dict[str, str]]:
    """The section of this name, as libpq reads it: the first of several sections or keys counts.

    Raises `ValueError` for a line that libpq refuses.
    """
    entries: Optional[dict[str, str]] = None
    for line in map(str.strip, text.split("\n")):
        if line.startswith("["):
            if entries is not None:
                break
            entries = {} if line.startswith(f"[{name}]") else None
        elif entries is not None and line and not line.startswith("#"):
            key, is_entry, value = line.partition("=")
            if not is_entry and not line.startswith("ldap"):
                raise ValueError(line)
            entries.setdefault(key, value)
    return entries


def _canonical(host: str) -> str:
    return host.rstrip(".").lower()


def _is_loopback(host: str) -> bool:
    if _canonical(host) in ("localhost", "localhost.localdomain"):
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    # Another server may listen on another address of the loopback network.
    return str(getattr(address, "ipv4_mapped", None) or address) in ("127.0.0.1", "::1")


def _addresses(target: Target) -> frozenset[str]:
    """The addresses of the host; empty for a socket and for a name that cannot be resolved."""
    if target.is_socket:
        return frozenset()
    try:
        found = socket.getaddrinfo(target.address or target.host, None, proto=socket.IPPROTO_TCP)
    except OSError:
        return frozenset()
    return frozenset("loopback" if _is_loopback(str(each[4][0])) else str(each[4][0]) for each in found)
