"""What the pytest plugin does when it is asked to; nothing in here is imported before.

The seam for what builds on it (Django, for one): `databases_of(config)` is the `Databases` of a process that runs tests, or None.
`databases.obtain()` leases one database per alias, all or none, and sets the variables of `pgdibs_env`; it may be called again.
It happens before conftest.py is imported when there are variables to set, else when something first asks for it. The hooks in
`pgdibs.pytest_plugin.Hooks` say which aliases there are, when the leases have come, and when connections have to be closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import pytest

if TYPE_CHECKING:
    from pgdibs.plugin.databases import Databases
    from pgdibs.plugin.settings import Settings

settings_key: pytest.StashKey[Settings] = pytest.StashKey()
"""The settings of a process of a run; a process that builds a template has none."""

databases_key: pytest.StashKey[Databases] = pytest.StashKey()


def databases_of(config: pytest.Config) -> Optional[Databases]:
    """The databases of this process; None when no pool is set or this process runs no tests (a controller, `--collect-only`)."""
    return config.stash.get(databases_key, None)
