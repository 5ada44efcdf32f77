"""The inputs of a template's fingerprint, by name with a hash of each, and the sentence about those that have changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest

HASH_DIGITS = 12
MOST_INPUTS = 500
MOST_BYTES = 24_000
"""What the inputs may take of a request, which has 64 KiB: beyond it the files of a directory are one input."""

NAME_CHARACTERS = 200
"""How many characters of a name the daemon takes; the last ones of a longer one are kept, which tell files apart."""

named_inputs_key: pytest.StashKey[dict[str, str]] = pytest.StashKey()
"""What a hook `pytest_pgdibs_fingerprint` of pgdibs has hashed, by name; the daemon gets it in place of the hook's result."""

SHOWN = 3
"""How many names of each kind a sentence has."""


def hash_of(text: str) -> str:
    """The beginning of a hash: enough to tell whether an input has changed."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:HASH_DIGITS]


def inputs_for_daemon(files: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """The files with their hashes, or their directories if there are too many of them, and what else counts."""
    grouped = dict(files)
    for depth in (None, 3, 2, 1, 0):
        if depth is not None:
            grouped = _by_directory(files, depth)
        inputs = {_plain(name): value[:HASH_DIGITS] for name, value in {**grouped, **others}.items()}
        if len(inputs) <= MOST_INPUTS and len(json.dumps(inputs)) <= MOST_BYTES:
            return inputs
    return {}


def sentence(changes: Mapping[str, Any]) -> str:
    """What has changed since the pool's template before, as the daemon says it: `0042_x.sql changed; 0043_y.sql added`."""
    words, more = [], int(changes.get("more", 0))
    for verb in ("changed", "added", "removed"):
        names = [_plain(str(name)) for name in changes.get(verb, [])]
        more += len(names[SHOWN:])
        words += [f"{', '.join(names[:SHOWN])} {verb}"] if names else []
    words += [f"{more} more"] if more else []
    return "; ".join(words) or "no input has changed"


def _by_directory(files: Mapping[str, str], depth: int) -> dict[str, str]:
    """One input for each directory, of which at most so many levels count."""
    groups: dict[str, list[str]] = {}
    for name, value in sorted(files.items()):
        parents = PurePosixPath(name).parent.parts[:depth]
        groups.setdefault("/".join([*parents, "**"]), []).append(f"{name} {value}")
    return {name: hash_of("\n".join(lines)) for name, lines in groups.items()}


def _plain(name: str) -> str:
    """A name as the daemon takes it, whatever characters a file system allows."""
    text = name.encode(errors="backslashreplace").decode()
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)[-NAME_CHARACTERS:] or "?"
