"""Reads the settings of the plugin in the ini file, and finds unknown ones that start with `pgdibs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "pgdibs"
"""The prefix of the settings; comparisons ignore case."""


def names_in_file(config: pytest.Config) -> Iterable[str]:
    """The names of all settings in the ini file, registered or not; from pytest 9 on also those of `-o`."""
    # pytest 9.1 warns about the public name.
    settings: Iterable[str] = config._inicfg if hasattr(config, "_inicfg") else config.inicfg
    return settings


def is_absent(config: pytest.Config, name: str) -> bool:
    """Whether neither the ini file nor `-o` has the setting; an empty value is present."""
    return name not in given(config)


def ini_value(config: pytest.Config, name: str) -> Any:
    """The value of a setting; raises `pytest.UsageError` if pytest cannot parse it or it has the wrong type."""
    try:
        return config.getini(name)
    except (TypeError, ValueError, pytest.UsageError) as error:
        raise pytest.UsageError(f"pgdibs: {name} in the ini file: {error}") from error


def unknown_settings(config: pytest.Config) -> list[str]:
    """One sentence for each setting of the ini file, or of `-o`, that starts with `pgdibs` and that no plugin has registered."""
    return [_sentence(config, name, origin) for name, origin in given(config).items() if not _is_registered(config, name)]


def missing_pool(config: pytest.Config) -> list[str]:
    """The error of a run whose ini file has settings of pgdibs and no pool; empty for a project without such settings.

    The run must stop before pytest imports conftest.py: without a pool, conftest.py reaches the developer's database.
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
    """The settings that start with `pgdibs`, and where each comes from: the ini file or `-o`."""
    found = dict.fromkeys(names_in_file(config), config.inipath.name if config.inipath is not None else "the ini file")
    # Up to pytest 8 they do not include those of `-o`.
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
        return True  # registered, with a value of the wrong type
    return True


def _sentence(config: pytest.Config, name: str, origin: str) -> str:
    import difflib

    # Without the common prefix, which makes all names similar.
    endings = [each[len(PREFIX) + 1 :] for each in known(config)]
    similar = difflib.get_close_matches(name[len(PREFIX) :].lower().replace("-", "_").lstrip("_"), endings, n=1)
    hint = f"did you mean {PREFIX}_{similar[0]}?" if similar else "`pytest --help` lists the settings that start with pgdibs_"
    return f"pgdibs: {name} in {origin} is not a setting of pgdibs; {hint}"


def known(config: pytest.Config) -> list[str]:
    """The registered settings that start with `pgdibs_`."""
    return [name for name in config._parser._inidict if name.startswith(f"{PREFIX}_")]
