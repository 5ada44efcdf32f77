"""Calls back when certain modules have been imported, without importing them and without affecting other imports."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Optional


class AfterImport(MetaPathFinder):
    """The first finder in `sys.meta_path`: finds a watched module by the other finders, and wraps its loader for this import."""

    def __init__(self, callbacks: Mapping[str, Callable[[ModuleType], None]]) -> None:
        self._callbacks = callbacks
        self._searching = threading.local()

    def install(self) -> None:
        """Call back for the watched modules that are imported, now or later."""
        sys.meta_path.insert(0, self)
        for name, callback in self._callbacks.items():
            module = sys.modules.get(name)
            if module is not None:
                callback(module)

    def remove(self) -> None:
        """Stop watching."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        """The spec of another finder; None for a module that is not watched."""
        callback = self._callbacks.get(fullname)
        if callback is None or getattr(self._searching, "name", None) == fullname:
            return None
        # Another finder may call all finders, and so this one again.
        self._searching.name = fullname
        try:
            for finder in list(sys.meta_path):
                find = getattr(finder, "find_spec", None)
                spec: Optional[ModuleSpec] = find(fullname, path, target) if find is not None and finder is not self else None
                if spec is not None:
                    if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                        spec.loader = _CallingLoader(spec.loader, callback)
                    return spec
        finally:
            self._searching.name = None
        return None


class _CallingLoader(Loader):
    """Calls back after the execution of the module; the module sees only its own loader."""

    def __init__(self, loader: Any, callback: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._callback = callback

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        spec.loader = self._loader
        module: Optional[ModuleType] = self._loader.create_module(spec)
        spec.loader = self
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._callback(module)
