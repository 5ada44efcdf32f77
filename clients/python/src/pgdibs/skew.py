"""Calls to a daemon that is older than this client: which field or route it does not know, and what the client does then.

A newer daemon knows everything that this client sends, and the client ignores what it does not know in answers.
"""

from __future__ import annotations

import re
from typing import Any, Optional

API_LEVEL = 4
"""The level of the API that this client is written for; `crates/pgdibs-api/src/level.rs` says what each level has added."""

OPTIONAL_FIELDS = frozenset({"holder"})
"""Request fields that only inform people. A call goes on without them when the daemon does not know them."""

# The API promises this text in the detail of `invalid_request`; no other part of the answer has the name.
_UNKNOWN = re.compile(r"unknown (?:field|variant) `([^`]+)`")


def unknown_name(problem: Any) -> Optional[str]:
    """The name of the field or value of the request that the daemon does not know."""
    if not isinstance(problem, dict) or problem.get("code") != "invalid_request":
        return None
    found = _UNKNOWN.search(str(problem.get("detail")))
    return found[1] if found else None


def without_refused(body: Any, problem: Any) -> Any:
    """The request without the optional field that this answer refuses; unchanged if it refuses something else."""
    name = unknown_name(problem)
    return _without(body, name) if name in OPTIONAL_FIELDS else body


def _without(value: Any, name: Optional[str]) -> Any:
    if isinstance(value, dict):
        return {field: _without(part, name) for field, part in value.items() if field != name}
    return [_without(part, name) for part in value] if isinstance(value, list) else value


def missing(method: str, path: str, problem: Any) -> Optional[str]:
    """What the daemon does not know of a call, for `sentence`; None if the problem has another cause."""
    name = unknown_name(problem)
    if name is not None:
        return name
    is_route = isinstance(problem, dict) and problem.get("code") in ("not_found", "method_not_allowed")
    return f"{method} {path.partition('?')[0]}" if is_route else None


def sentence(missing: str, daemon_version: str, daemon_level: int) -> str:
    """One sentence with both versions and what to do."""
    remedy = "upgrade the daemon" if " " in missing else f"upgrade the daemon or leave out `{missing}`"
    return (
        f"pgdibs client {client_version()} (API level {API_LEVEL}) talks to pgdibs daemon {daemon_version} "
        f"(API level {daemon_level}), which does not know `{missing}`; {remedy}"
    )


def client_version() -> str:
    """The version of the installed package."""
    # Imported here, because only this error needs it and the import takes longer than that of the client.
    from importlib import metadata

    try:
        return metadata.version("pgdibs")
    except metadata.PackageNotFoundError:
        return "of an unknown version"
