"""Searches the files of the project for database URLs and for assignments to environment variables."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from pgdibs.plugin.connection_guard.places import is_of_project, shown
from pgdibs.plugin.connection_guard.targets import Target, of_url

MAX_FILES = 500
MAX_FOLDERS = 2000
MAX_BYTES = 500_000
SKIPPED_FOLDERS = ("node_modules", "site-packages", "__pycache__", "venv")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+]*://[^\s\"'<>`]+")
SETTINGS_FILES = ("*.ini", "*.cfg", "*.toml", "*.yml", "*.yaml")


class Sources:
    """The loaded modules and conftest files of the project, and the settings files beside its ini file."""

    def __init__(self, config: pytest.Config) -> None:
        self._root = config.rootpath
        inifile = config.inipath
        folders = [config.rootpath, inifile.parent if inifile is not None else config.rootpath, Path.cwd()]
        self._folders = list(dict.fromkeys(folder.resolve() for folder in folders))

    def assignment(self, name: str) -> Optional[str]:
        """The first line of a loaded module that sets this environment variable; conftest files come first."""
        weaker = None
        for path, tree in self._modules():
            for node in ast.walk(tree):
                strength = _sets(node, name)
                if strength == 2:
                    return shown(str(path), getattr(node, "lineno", 0), self._root)
                if strength == 1 and weaker is None and self._is_in_dotenv(name):
                    weaker = shown(str(path), getattr(node, "lineno", 0), self._root) + " (load_dotenv with override=True)"
        return weaker

    def setting(self, name: str, target: Target) -> Optional[str]:
        """A line of a `.env` or settings file that sets this variable to the URL of the target."""
        for path in self._text_files():
            for number, line in _code_lines(path):
                if name in line and _has_url(line, target):
                    return shown(str(path), number, self._root)
        return None

    def dotenv(self) -> Iterator[tuple[str, str, str]]:
        """Name, value and place of each line of the `.env` files."""
        for path in self._dotenv_files():
            for number, line in _code_lines(path):
                name, is_entry, value = line.strip().removeprefix("export ").partition("=")
                if is_entry and name.strip().isidentifier():
                    yield name.strip(), value.strip().strip("\"'"), shown(str(path), number, self._root)

    def url(self, target: Target) -> Optional[str]:
        """The first line of a settings file, or of a loaded module, with the URL of the target."""
        for path in self._text_files():
            for number, line in _code_lines(path):
                if _has_url(line, target):
                    return shown(str(path), number, self._root)
        for path, tree in self._modules():
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and _has_url(node.value, target):
                    return shown(str(path), node.lineno, self._root)
        return None

    def _is_in_dotenv(self, name: str) -> bool:
        return any(entry == name for entry, _value, _place in self.dotenv())

    def _dotenv_files(self) -> Iterator[Path]:
        for folder in self._folders:
            yield from sorted(path for path in folder.glob(".env*") if path.is_file())

    def _text_files(self) -> Iterator[Path]:
        yield from self._dotenv_files()
        for folder in self._folders:
            for pattern in SETTINGS_FILES:
                yield from sorted(folder.glob(pattern))

    def _conftests(self) -> Iterator[str]:
        for number, (folder, below, names) in enumerate(os.walk(self._root)):
            below[:] = sorted(name for name in below if not name.startswith(".") and name not in SKIPPED_FOLDERS)
            if "conftest.py" in names:
                yield os.path.join(folder, "conftest.py")
            if number >= MAX_FOLDERS:
                return

    def _modules(self) -> Iterator[tuple[Path, ast.Module]]:
        files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
        # A conftest whose import failed is not in sys.modules.
        files |= set(self._conftests())
        project_files = [Path(file) for file in files if file.endswith(".py") and is_of_project(file, self._root)]
        for path in sorted(project_files, key=lambda path: (path.name != "conftest.py", str(path)))[:MAX_FILES]:
            try:
                if path.stat().st_size <= MAX_BYTES:
                    yield path, ast.parse(path.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue


def _code_lines(path: Path) -> list[tuple[int, str]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [(number, line) for number, line in enumerate(lines, start=1) if not line.lstrip().startswith(("#", ";"))]


def _has_url(text: str, target: Target) -> bool:
    for url in URL.findall(text):
        found = of_url(url)
        if found is not None and (found.database, found.port) == (target.database, target.port):
            return (found.is_local and target.is_local) or found.host.lower() == target.host.lower()
    return False


def _sets(node: ast.AST, name: str) -> int:
    """2 if a statement sets the variable, 1 if it sets the variables of a `.env` file, 0 otherwise."""
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Subscript) and _is_environ(target.value) and _is(target.slice, name) for target in targets):
            return 2
        return 2 if isinstance(node, ast.AugAssign) and _is_environ(node.target) and _mentions(node.value, name) else 0
    if not isinstance(node, ast.Call):
        return 0
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called in ("setenv", "putenv", "__setitem__") and node.args and _is(node.args[0], name):
        return 2
    on_environ = isinstance(node.func, ast.Attribute) and _is_environ(node.func.value)
    is_patch = called == "dict" and bool(node.args) and (_is_environ(node.args[0]) or _is(node.args[0], "os.environ"))
    if (on_environ and called == "update") or is_patch:
        values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg is None)]
        if any(keyword.arg == name for keyword in node.keywords) or any(_mentions(value, name) for value in values):
            return 2
    is_override = any(keyword.arg == "override" and _is(keyword.value, True) for keyword in node.keywords)
    return 1 if called == "load_dotenv" and is_override else 0


def _is_environ(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "environ") or (isinstance(node, ast.Name) and node.id == "environ")


def _is(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value == value


def _mentions(node: ast.AST, name: str) -> bool:
    return any(_is(each, name) for each in ast.walk(node))
