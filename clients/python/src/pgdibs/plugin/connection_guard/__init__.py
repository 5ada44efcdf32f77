"""The connection guard: stops a connection of this process to a Postgres database that was not leased, before it opens.

`drivers` wraps what opens connections and asks `ConnectionGuard`, which resolves the arguments by `targets`, decides, and on a
refusal has `causes` say why. `reports` ends the run with the sentence, also when the application has swallowed the exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from pgdibs.plugin.connection_guard.decisions import ConnectionGuard
from pgdibs.plugin.connection_guard.drivers import Drivers
from pgdibs.plugin.connection_guard.reports import Reports
from pgdibs.plugin.connection_guard.roles import Role
from pgdibs.plugin.connection_guard.targets import Exemption

if TYPE_CHECKING:
    from pgdibs.plugin.variables import Variable

__all__ = ["Role", "install"]

REPORTS = "pgdibs-connection-guard"
"""The name of the plugin that ends the run."""


def parse_exemptions(entries: Sequence[str]) -> tuple[Exemption, ...]:
    """The entries of `pgdibs_allow`. Raises `pytest.UsageError` with the rule."""
    exemptions = []
    for entry in entries:
        exemption = Exemption.parse(entry)
        if exemption is None:
            raise pytest.UsageError(
                f"pgdibs: pgdibs_allow in the ini file: `{entry}` is not HOST:PORT/DATABASE; each part may hold the wildcards * "
                "and ?, as in `pgdibs_allow = 127.0.0.1:5432/reference reports.internal:*/*`"
            )
        exemptions.append(exemption)
    return tuple(exemptions)


def install(
    config: pytest.Config, mode: str, allow: Sequence[str], role: Role, variables: Sequence[Variable], ends_with_run: bool
) -> None:
    """Watch every connection of this process; `mode` is `error`, `warn` or `off`.

    The guard is removed when pytest is unconfigured. If the process ends with the run (`ends_with_run`), the guard stays instead,
    and no database is granted any more. `allow` are the entries of `pgdibs_allow`, `variables` those that pgdibs sets.
    Raises `pytest.UsageError`.
    """
    exemptions = parse_exemptions(allow)
    if mode == "off":
        return
    guard = ConnectionGuard(config, mode, exemptions, role, variables)
    drivers = Drivers(guard)
    config.add_cleanup(guard.end if ends_with_run else drivers.remove)
    config.pluginmanager.register(Reports(guard), REPORTS)
    drivers.install()
