"""Finds places in the project: the code that connects, a fixture, a module with an engine."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Optional

import pytest

from pgdibs.plugin.connection_guard.targets import Target

OWN = str(Path(__file__).resolve().parents[2])


def shown(path: str, line: int, root: Path) -> str:
    """The place as in `tests/conftest.py:12`, relative to the root if below it."""
    try:
        return f"{Path(path).resolve().relative_to(root.resolve())}:{line}"
    except ValueError:
        return f"{path}:{line}"


def is_of_project(path: str, root: Path) -> bool:
    """Whether a source file belongs to the project and to no installed package."""
    if path.startswith("<"):  # no file, as in `<string>`
        return False
    inside = Path(path).resolve()
    return root.resolve() in inside.parents and not {"site-packages", "dist-packages"} & set(inside.parts)


def of_caller(root: Path) -> Optional[str]:
    """The innermost line of the project on the call stack; None in a thread of a pool."""
    for frame in _frames():
        if is_of_project(frame.f_code.co_filename, root):
            return shown(frame.f_code.co_filename, frame.f_lineno, root)
    return None


def is_running(code: Optional[CodeType]) -> bool:
    """Whether this function is on the call stack."""
    return any(frame.f_code is code for frame in _frames())


def fixture(config: pytest.Config, name: str) -> tuple[Optional[str], Optional[CodeType]]:
    """Place and code of the project's fixture of this name that some collected test would get; None and None without one."""
    session: Any = config.pluginmanager.get_plugin("session")
    manager: Any = config.pluginmanager.get_plugin("funcmanage")
    seen: set[Any] = set()
    for item in getattr(session, "items", None) or ():
        if item.parent in seen:
            continue
        seen.add(item.parent)
        # Before pytest 8 `getfixturedefs` takes the id of the node.
        node = item if getattr(pytest, "version_tuple", (7,)) >= (8,) else item.nodeid
        definitions = manager.getfixturedefs(name, node)
        code = getattr(definitions[-1].func, "__code__", None) if definitions else None
        if code is not None and is_of_project(code.co_filename, config.rootpath):
            return shown(code.co_filename, code.co_firstlineno, config.rootpath), code
    return None, None


def engine(root: Path, target: Target, modules: Collection[str]) -> Optional[str]:
    """An SQLAlchemy engine for this database in one of these modules of the project, as in `app.db.engine`."""
    for name, module in list(sys.modules.items()):
        if name not in modules or not is_of_project(getattr(module, "__file__", None) or "/", root):
            continue
        for attribute, value in list(vars(module).items()):
            url = getattr(value, "url", None) if type(value).__name__ in ("Engine", "AsyncEngine") else None
            if url is not None and url.database == target.database:
                return f"{name}.{attribute}"
    return None


def _frames() -> Iterator[FrameType]:
    """The frames of the call stack, innermost first, also those that started the greenlets of SQLAlchemy's asyncio."""
    frame: Optional[FrameType] = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(OWN):
            yield frame
        frame = frame.f_back
    module: Any = sys.modules.get("greenlet")
    parent = module.getcurrent().parent if module is not None else None
    while parent is not None:
        frame = parent.gr_frame
        while frame is not None:
            yield frame
            frame = frame.f_back
        parent = parent.parent
