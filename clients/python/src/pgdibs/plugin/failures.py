"""Turns an error before the first test, or at the first lease, into one `UsageError` that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgdibs import errors

if TYPE_CHECKING:
    from pgdibs.lease import Lease
    from pgdibs.plugin.databases import Databases
    from pgdibs.plugin.settings import Settings


class BuildFailed(Exception):
    """The build command of the project failed; `str()` names it and has the end of its output."""


def obtain_or_stop(databases: Databases, session: pytest.Session) -> dict[str, Lease]:
    """The leases. If there are none, fail this test and stop the session, both with one sentence."""
    try:
        return databases.obtain()
    except (errors.PgdibsError, BuildFailed) as error:
        sentence = str(usage_error(error, databases.settings))
    session.shouldstop = sentence
    pytest.fail(sentence, pytrace=False)


def usage_error(error: Exception, settings: Settings) -> pytest.UsageError:
    """The error as a sentence, with a hint about the settings of the plugin."""
    hint = ""
    if isinstance(error, errors.Unreachable) and settings.start == "never":
        hint = "; or set `pgdibs_start = auto`, which starts one"
    elif isinstance(error, errors.PoolNotFound):
        hint = (
            f"; correct pgdibs_pool, or set pgdibs_fingerprint and pgdibs_build, which create the pool, "
            f"or write [pools.{settings.pool}] in the daemon's pgdibs.toml"
        )
    elif isinstance(error, errors.TemplateNotFound):
        hint = "; set pgdibs_fingerprint and pgdibs_build, or let the daemon build it (`source` in its pgdibs.toml)"
    elif isinstance(error, errors.Unauthorized):
        hint = "; set PGDIBS_TOKEN to the daemon's token"
    return pytest.UsageError(f"pgdibs: {str(error).rstrip('.')}{hint}")
