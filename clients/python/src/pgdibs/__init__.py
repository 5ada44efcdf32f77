"""Clean Postgres databases for tests, leased from a pgdibs daemon: this client, and a pytest plugin.

    with pgdibs.Client().lease("myapp_test") as lease:
        connect(lease.url)

Each name is imported at its first use, so that `import pgdibs` alone costs a pytest run nothing. The modules, bottom-up:
`errors`, `urls`, `granted`, `skew`; `transport`, `heartbeat`; `calls`; `lease`, `templates`; `client`; `aio`, `start`, `plugin`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgdibs import errors, start, templates, urls
    from pgdibs.aio import AsyncClient, AsyncLease
    from pgdibs.client import Client, LeaseRequest
    from pgdibs.errors import ConnectionStopped, LeaseEnded, PgdibsError, Unreachable
    from pgdibs.lease import KeptDatabase, Lease
    from pgdibs.templates import TemplateReady
    from pgdibs.transport import Answer

_MODULE_OF = {
    "Answer": "transport",
    "AsyncClient": "aio",
    "AsyncLease": "aio",
    "Client": "client",
    "ConnectionStopped": "errors",
    "KeptDatabase": "lease",
    "Lease": "lease",
    "LeaseEnded": "errors",
    "LeaseRequest": "client",
    "PgdibsError": "errors",
    "TemplateReady": "templates",
    "Unreachable": "errors",
}
_MODULES = ("errors", "start", "templates", "urls")

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncLease",
    "Client",
    "ConnectionStopped",
    "KeptDatabase",
    "Lease",
    "LeaseEnded",
    "LeaseRequest",
    "PgdibsError",
    "TemplateReady",
    "Unreachable",
    "errors",
    "start",
    "templates",
    "urls",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"pgdibs.{_MODULE_OF[name]}"), name)
    if name in _MODULES:
        return import_module(f"pgdibs.{name}")
    raise AttributeError(f"module 'pgdibs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
