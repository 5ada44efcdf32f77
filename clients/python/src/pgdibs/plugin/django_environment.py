"""Sets the variables whose URL names a database of Django's settings, for the processes that tests start.

A worker, a command or a spawned process reads the settings again, and would connect to the developer's database. So the plugin
makes these variables unavailable when Django has read its settings, and sets them to the lease when it has one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import unquote, urlsplit

from pgdibs.plugin.variables import Unavailable
from pgdibs.urls import POSTGRES_SCHEMES, retarget

if TYPE_CHECKING:
    from pgdibs.plugin.variables import Target

Place = tuple[str, str, str]
"""Host, port and name of a database."""


def place_of_settings(entry: Mapping[str, Any]) -> Place:
    """The place in an entry of DATABASES."""
    return _host(str(entry.get("HOST") or "")), str(entry.get("PORT") or 5432), str(entry.get("NAME") or "")


def place_of_url(url: str) -> Optional[Place]:
    """The place in a Postgres URL; None for any other text."""
    scheme, separator, _rest = url.partition("://")
    if not separator or scheme.partition("+")[0].lower() not in POSTGRES_SCHEMES:
        return None
    try:
        parts = urlsplit(url)
        return _host(unquote(parts.hostname or "")), str(parts.port or 5432), unquote(parts.path.lstrip("/"))
    except ValueError:  # an invalid port, or a bracket in the password
        return None


def set_unavailable(places: Collection[Place], replaced: dict[str, str]) -> None:
    """Make each variable that names one of these places unavailable, and store its value in `replaced`."""
    for name, value in list(os.environ.items()):
        if place_of_url(value) in places and value != _unavailable(value):
            replaced[name] = value
            os.environ[name] = _unavailable(value)


def follow(places: Mapping[Place, str], targets: Mapping[str, Target], replaced: Mapping[str, str]) -> None:
    """Set each variable that names one of these places, or did so before `set_unavailable`, to the target of its alias."""
    for name, value in list(os.environ.items()):
        before = replaced.get(name, value)
        if value != _unavailable(before):
            before = value  # the project has changed it since
        place = place_of_url(before)
        target = targets.get(places.get(place, "")) if place is not None else None
        if target is not None:
            os.environ[name] = retarget(before, target.url)


def _unavailable(url: str) -> str:
    return retarget(url, Unavailable().url)


def _host(host: str) -> str:
    """The host, with `localhost` for all spellings of this machine; an empty host and a directory mean its socket."""
    return "localhost" if host in ("", "127.0.0.1", "::1") or host.startswith("/") else host.lower()
