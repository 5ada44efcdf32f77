"""Reads the plugin's settings in the ini file, and refuses those that look like settings of pgdibs and are none."""

from __future__ import annotations

import difflib
from typing import Any

import pytest

from pgdibs.pytest_plugin import names_in_file

PREFIX = "pgdibs"
"""What the names of pgdibs's settings begin with; the comparison is without regard to case."""


def ini_value(config: pytest.Config, name: str) -> Any:
    """The value of a setting; raises `pytest.UsageError` when it has a type or quotes that pytest cannot take."""
    try:
        return config.getini(name)
    except (TypeError, ValueError, pytest.UsageError) as error:
        raise pytest.UsageError(f"pgdibs: {name} in the ini file: {error}") from error


def unknown_settings(config: pytest.Config) -> list[str]:
    """One sentence for each setting of the ini file, or of `-o`, that begins like ours and that no plugin has registered."""
    return [_sentence(config, name, origin) for name, origin in given(config).items() if not _is_registered(config, name)]


def missing_pool(config: pytest.Config) -> list[str]:
    """Why a run whose ini file has settings of pgdibs, and no pool, is stopped; nothing for a project without any.

    Before conftest.py is imported: without a pool nothing keeps it from the developer's database.
    """
    found = given(config)
    unknown = unknown_settings(config)
    if unknown or not found:
        return unknown
    names = ", ".join(sorted(name for name in found if name != "pgdibs_pool")) or "pgdibs_pool (empty)"
    return [
        f"pgdibs: {next(iter(found.values()))} has {names} and no pool, so the tests would run on the application's own "
        "database; add `pgdibs_pool = NAME`, or set PGDIBS_POOL. To run without pgdibs on purpose: `-p no:pgdibs`"
    ]


def given(config: pytest.Config) -> dict[str, str]:
    """The settings that begin like ours and where they stand: in the ini file or behind `-o`."""
    found = dict.fromkeys(names_in_file(config), config.inipath.name if config.inipath is not None else "the ini file")
    # Up to pytest 8 what `-o` gives is not among them.
    for entry in getattr(config.known_args_namespace, "override_ini", None) or ():
        found[entry.partition("=")[0].strip()] = "-o"
    return {name: origin for name, origin in found.items() if name[: len(PREFIX)].lower() == PREFIX}


def _is_registered(config: pytest.Config, name: str) -> bool:
    try:
        config.getini(name)
    except KeyError:
        return False
    except (TypeError, ValueError) as error:
        return "unknown configuration value" not in str(error)
    except pytest.UsageError:
        return True  # a value that does not fit its type
    return True


def _sentence(config: pytest.Config, name: str, origin: str) -> str:
    # Without the part that all have in common, or anything would be near to something.
    endings = [each[len(PREFIX) + 1 :] for each in known(config)]
    near = difflib.get_close_matches(name[len(PREFIX) :].lower().replace("-", "_").lstrip("_"), endings, n=1)
    advice = f"did you mean {PREFIX}_{near[0]}?" if near else "`pytest --help` lists the settings that start with pgdibs_"
    return f"pgdibs: {name} in {origin} is not a setting of pgdibs; {advice}"


def known(config: pytest.Config) -> list[str]:
    """The settings that begin like ours and that a plugin has registered."""
    return [name for name in config._parser._inidict if name.startswith(f"{PREFIX}_")]
