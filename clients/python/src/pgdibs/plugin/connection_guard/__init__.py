"""The connection guard: stops a connection of this process to a Postgres database that was not leased, before it opens.

Its modules, bottom-up: `roles`, `targets` and `imports`; `places` and `sources`; `decisions`; `causes`, `drivers` and `hooks`.
`drivers` wraps the functions that open connections and calls `ConnectionGuard` (`decisions`), which resolves the arguments with
`targets` and decides. For a refused connection, `causes` explains why. `hooks` ends the run with that sentence, also if the
application has swallowed the exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from pgdibs.plugin.connection_guard.decisions import ConnectionGuard
from pgdibs.plugin.connection_guard.drivers import Drivers
from pgdibs.plugin.connection_guard.hooks import GuardHooks
from pgdibs.plugin.connection_guard.roles import Role
from pgdibs.plugin.connection_guard.targets import Exemption, Target

if TYPE_CHECKING:
    from pgdibs.plugin.variables import Variable

__all__ = ["Role", "install"]

HOOKS_NAME = "pgdibs-connection-guard"
"""The name under which pytest knows `GuardHooks`."""


def parse_exemptions(entries: Sequence[str]) -> tuple[Exemption, ...]:
    """Parse the entries of `pgdibs_allow`. Raises `pytest.UsageError` with the rule."""
    exemptions = []
    for entry in entries:
        exemption = Exemption.parse(entry)
        if exemption is None:
            raise pytest.UsageError(
                f"pgdibs: pgdibs_allow in the ini file: `{entry}` is not HOST:PORT/DATABASE; each part may contain the wildcards "
                "* and ?, as in `pgdibs_allow = 127.0.0.1:5432/reference reports.internal:*/*`"
            )
        exemptions.append(exemption)
    return tuple(exemptions)


def install(
    config: pytest.Config, mode: str, allow: Sequence[str], role: Role, variables: Sequence[Variable], ends_with_run: bool
) -> None:
    """Watch every connection of this process; `mode` is `error`, `warn` or `off`.

    The end of the run removes the guard. If the process ends with the run (`ends_with_run`), the guard stays and allows no leased
    database any more. `allow` are the entries of `pgdibs_allow`, `variables` those that pgdibs sets. Raises `pytest.UsageError`.
    """
    exemptions = parse_exemptions(allow)
    if mode == "off":
        return
    guard = ConnectionGuard(config, mode, exemptions, role, variables, _explain)
    drivers = Drivers(guard)
    config.add_cleanup(guard.end if ends_with_run else drivers.remove)
    config.pluginmanager.register(GuardHooks(guard), HOOKS_NAME)
    drivers.install()


def _explain(guard: ConnectionGuard, layer: str, strangers: list[Target], reason: str) -> str:
    # Imported when a connection is stopped: most processes stop none.
    from pgdibs.plugin.connection_guard.causes import explain

    return explain(guard, layer, strangers, reason)
