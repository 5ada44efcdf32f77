"""Decides about each connection attempt of this process, and remembers the first one that was stopped."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import pytest

from pgdibs import granted
from pgdibs.errors import ConnectionStopped
from pgdibs.plugin.connection_guard.roles import Role
from pgdibs.plugin.connection_guard.targets import Exemption, Target, Unresolved, is_same, resolve
from pgdibs.plugin.variables import Nowhere

if TYPE_CHECKING:
    from pgdibs.plugin.variables import Variable


class StoppedInTest(ConnectionStopped, pytest.fail.Exception):  # type: ignore[name-defined,misc]
    """`ConnectionStopped` as pytest reports best: the sentence, without the frames of the driver."""

    def __init__(self, sentence: str) -> None:
        pytest.fail.Exception.__init__(self, sentence, pytrace=False)


class ConnectionGuard:
    """The decision about each attempt: None when it may go on, `ConnectionStopped` raised when it may not."""

    def __init__(
        self, config: pytest.Config, mode: str, exemptions: Sequence[Exemption], role: Role, variables: Sequence[Variable]
    ) -> None:
        self.config = config
        self.mode = mode
        self.exemptions = exemptions
        self.role = role
        self.variables = variables
        self.before = dict(os.environ)
        """The environment as pgdibs found it."""
        self.modules_before = frozenset(sys.modules)
        """The names of the modules that were imported before pgdibs set the variables."""
        self.is_active = True
        self.stopped = ""
        """The sentence about the first attempt that was stopped."""
        self._allowed: dict[Hashable, tuple[tuple[Any, ...], tuple[Any, ...]]] = {}
        """For arguments that were let through: the variables that mattered, and their values."""
        # Without the decoding that `os.environ` does at each access, where it can be had: that is most of what a check costs.
        encoded: Any = getattr(os.environ, "_data", None)
        self._encode: Callable[[str], Any] = os.environ.encodekey if encoded is not None else str
        self._raw: Callable[[Any], Any] = encoded.get if encoded is not None else os.environ.get
        self._sentences: dict[tuple[Role, str], str] = {}
        self._lock = threading.RLock()

    def end(self) -> None:
        """The run is over and the process is not: from here on no database is granted."""
        self.role = Role.ENDED
        granted.databases.clear()
        self._allowed.clear()

    def check_parameters(self, layer: str, key: Hashable, parameters: Callable[[], Mapping[str, Any]]) -> None:
        """Decide about libpq parameters; `key` stands for them in the cache of what was let through."""
        try:
            known = self._allowed.get(key)
        except TypeError:  # an argument that cannot be hashed
            known = key = None
        if known is not None and tuple(map(self._raw, known[0])) == known[1]:
            return
        read: dict[Any, Any] = {}

        def lookup(name: str) -> Optional[str]:
            read[self._encode(name)] = self._raw(self._encode(name))
            return os.environ.get(name)

        given = parameters()
        try:
            targets = resolve(given, lookup)
        except Unresolved as reason:
            self.stop(layer, [], str(reason))
            return
        self.check_targets(layer, targets)
        # A service file may say something else the next time.
        if key is not None and not given.get("service") and not os.environ.get("PGSERVICE"):
            self._allowed[key] = tuple(read), tuple(read.values())

    def check_resolved(self, layer: str, key: Hashable, targets: Callable[[], list[Target]]) -> None:
        """Decide about targets that the driver itself has worked out."""
        if key in self._allowed:
            return
        self.check_targets(layer, targets())
        self._allowed[key] = (), ()

    def check_targets(self, layer: str, targets: list[Target]) -> None:
        """Decide about targets."""
        strangers = [target for target in targets if not self.is_allowed(target)]
        if strangers:
            self.stop(layer, strangers)

    def is_allowed(self, target: Target) -> bool:
        """Whether it is a database that the daemon granted to this process, or one of `pgdibs_allow`."""
        return (
            any(is_same(target, *database) for database in list(granted.databases))
            or any(exemption.covers(target) for exemption in self.exemptions)
            # Nothing listens there, and a project's conftest may well try. In a process of tests it shows an old variable.
            or (self.role is not Role.TESTS and self.is_nowhere(target))
        )

    def is_nowhere(self, target: Target) -> bool:
        """Whether it is where pgdibs lets the variables lead in a process that leases nothing."""
        nowhere = Nowhere()
        return is_same(target, nowhere.host, nowhere.port, nowhere.database)

    def stop(self, layer: str, strangers: list[Target], reason: str = "") -> None:
        """Refuse an attempt: raise in mode `error`, warn once for each target in mode `warn`."""
        from pgdibs.plugin.connection_guard.causes import explain

        with self._lock:
            about = self.role, reason or str(strangers[0])
            is_new = about not in self._sentences
            if is_new:
                self._sentences[about] = explain(self, layer, strangers, reason)
            sentence = self._sentences[about]
            if is_new and self.role is Role.ENDED:
                # pytest reports nothing any more.
                print(f"{'ERROR' if self.mode == 'error' else 'WARNING'}: {sentence}", file=sys.stderr)
            elif is_new and self.mode == "warn":
                self._warn(sentence)
            if self.mode == "warn":
                return
            self.stopped = self.stopped or sentence
        raise StoppedInTest(sentence)

    def _warn(self, sentence: str) -> None:
        # Not by `warnings.warn`: a project's filters may turn that into an error in the middle of the application.
        message = warnings.WarningMessage(pytest.PytestWarning(sentence), pytest.PytestWarning, "pgdibs", 1)
        self.config.hook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": message, "when": "runtest", "nodeid": "", "location": None}
        )
