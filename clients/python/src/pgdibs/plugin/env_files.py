"""Reads variables from the `.env*` files beside the ini file as text, without executing or expanding anything."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

FIRST = (".env.test.local", ".env.test", ".env.local", ".env")
"""The first files to read, in this order: values for tests before general ones, local ones before shared ones."""

EXAMPLES = ("example", "sample", "template", "dist", "default", "defaults")
"""The suffixes of example files, which count only if no other file names the variable."""

MAX_BYTES = 1 << 20
"""A larger file is no list of variables; `parse` skips it."""

LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>.*)")
QUOTED = re.compile(r"(?P<quote>[\"'])(?P<value>.*?)(?<!\\)(?P=quote)")
COMMENT = re.compile(r"(^|\s)#.*")


class EnvFiles:
    """The `.env*` files of a folder, read at the first lookup."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def values(self, name: str) -> list[str]:
        """The values of `name` in the files, by precedence; names ignore case."""
        for files in self._files:
            found = [file[name.upper()] for file in files if name.upper() in file]
            if found:
                return found
        return []

    @cached_property
    def _files(self) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """The variables of each file: of the files that programs read, and of the examples."""
        try:
            # Only regular files: `.env` may be a virtual environment, or a pipe, which can be read only once.
            paths = sorted(path for path in self._folder.glob(".env*") if path.is_file())
        except OSError:
            paths = []
        paths.sort(key=lambda path: FIRST.index(path.name) if path.name in FIRST else len(FIRST))
        examples = [path for path in paths if path.name.rpartition(".")[2].lower() in EXAMPLES]
        return [parse(path) for path in paths if path not in examples], [parse(path) for path in examples]


def parse(path: Path) -> dict[str, str]:
    """The variables of one file, by name in upper case; empty for an unreadable file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return {}
    lines = filter(None, map(LINE.fullmatch, text.splitlines()))
    return {line["name"].upper(): unquote(line["value"]) for line in lines}


def unquote(text: str) -> str:
    """A value without its quotes, or without a trailing comment."""
    quoted = QUOTED.match(text)
    return quoted["value"] if quoted is not None else COMMENT.sub("", text).strip()
