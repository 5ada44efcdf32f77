"""Moves variables whose URL names a database of Django's settings to the lease, for the processes that tests start.

A worker, a command or a spawned process reads the settings again: without this it would connect to the developer's database.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import unquote, urlsplit

from pgdibs.urls import POSTGRES_SCHEMES, retarget

if TYPE_CHECKING:
    from pgdibs.plugin.variables import Target

Place = tuple[str, str, str]
"""Host, port and name of a database."""


def place_of_settings(entry: Mapping[str, Any]) -> Place:
    """What one entry of DATABASES says."""
    return _host(str(entry.get("HOST") or "")), str(entry.get("PORT") or 5432), str(entry.get("NAME") or "")


def place_of_url(url: str) -> Optional[Place]:
    """What a Postgres URL says; None for any other text."""
    scheme, separator, _rest = url.partition("://")
    if not separator or scheme.partition("+")[0].lower() not in POSTGRES_SCHEMES:
        return None
    try:
        parts = urlsplit(url)
        return _host(unquote(parts.hostname or "")), str(parts.port or 5432), unquote(parts.path.lstrip("/"))
    except ValueError:  # a port that is no number, a bracket in the password
        return None


def follow(places: Mapping[Place, str], targets: Mapping[str, Target]) -> None:
    """Set each variable that names one of these places to the target of its alias."""
    for name, value in list(os.environ.items()):
        place = place_of_url(value)
        target = targets.get(places.get(place, "")) if place is not None else None
        if target is not None:
            os.environ[name] = retarget(value, target.url)


def _host(host: str) -> str:
    """One spelling for this machine; an empty host and a directory are its socket."""
    return "localhost" if host in ("", "127.0.0.1", "::1") or host.startswith("/") else host.lower()
