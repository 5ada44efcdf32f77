"""Decides about each connection attempt of this process, and stores the sentence about the first stopped one."""

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
from pgdibs.plugin.variables import Unavailable

if TYPE_CHECKING:
    from pgdibs.plugin.variables import Variable


class StoppedInTest(ConnectionStopped, pytest.fail.Exception):  # type: ignore[name-defined,misc]
    """`ConnectionStopped` that pytest reports as a sentence, without the frames of the driver."""

    def __init__(self, sentence: str) -> None:
        pytest.fail.Exception.__init__(self, sentence, pytrace=False)


class ConnectionGuard:
    """Checks each attempt: returns if it is allowed, otherwise raises `ConnectionStopped`."""

    def __init__(
        self,
        config: pytest.Config,
        mode: str,
        exemptions: Sequence[Exemption],
        role: Role,
        variables: Sequence[Variable],
        explain: Callable[[ConnectionGuard, str, list[Target], str], str],
    ) -> None:
        self.config = config
        self.mode = mode
        self.exemptions = exemptions
        self.role = role
        self.variables = variables
        self._explain = explain
        self.before = dict(os.environ)
        """The environment before pgdibs set variables."""
        self.modules_before = frozenset(sys.modules)
        """The names of the modules that were imported before pgdibs set the variables."""
        self.is_active = True
        self.on_attempt: Optional[Callable[[], None]] = None
        """Called before each attempt is checked."""
        self.stopped = ""
        """The sentence about the first attempt that was stopped."""
        self._allowed: dict[Hashable, tuple[tuple[Any, ...], tuple[Any, ...]]] = {}
        """For allowed arguments: the variables that they depend on, and their values."""
        # Reads the encoded environment where possible: decoding at each access is most of the cost of a check.
        encoded: Any = getattr(os.environ, "_data", None)
        self._encode: Callable[[str], Any] = os.environ.encodekey if encoded is not None else str
        self._raw: Callable[[Any], Any] = encoded.get if encoded is not None else os.environ.get
        self._sentences: dict[tuple[Role, str], str] = {}
        self._lock = threading.RLock()

    def end(self) -> None:
        """The run has ended but the process goes on: allow no leased database any more."""
        self.role = Role.ENDED
        granted.databases.clear()
        self._allowed.clear()

    def check_parameters(self, layer: str, key: Hashable, parameters: Callable[[], Mapping[str, Any]]) -> None:
        """Check libpq parameters; `key` identifies them in the cache of allowed arguments."""
        if self.on_attempt is not None:
            self.on_attempt()
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
        # A service file may change, so the cache does not cover it.
        if key is not None and not given.get("service") and not os.environ.get("PGSERVICE"):
            self._allowed[key] = tuple(read), tuple(read.values())

    def check_resolved(self, layer: str, key: Hashable, targets: Callable[[], list[Target]]) -> None:
        """Check targets that the driver itself has resolved."""
        if self.on_attempt is not None:
            self.on_attempt()
        if key in self._allowed:
            return
        self.check_targets(layer, targets())
        self._allowed[key] = (), ()

    def check_targets(self, layer: str, targets: list[Target]) -> None:
        """Check targets."""
        foreign = [target for target in targets if not self.is_allowed(target)]
        if foreign:
            self.stop(layer, foreign)

    def is_allowed(self, target: Target) -> bool:
        """Whether the daemon granted the database to this process, or `pgdibs_allow` lists it."""
        return (
            any(is_same(target, *database) for database in list(granted.databases))
            or any(exemption.covers(target) for exemption in self.exemptions)
            # A conftest may try the unavailable target. In a process that runs tests, that means an outdated variable.
            or (self.role is not Role.TESTS and self.is_unavailable(target))
        )

    def is_unavailable(self, target: Target) -> bool:
        """Whether it is the target of the variables in a process that leases nothing."""
        unavailable = Unavailable()
        return is_same(target, unavailable.host, unavailable.port, unavailable.database)

    def stop(self, layer: str, foreign: list[Target], reason: str = "") -> None:
        """Refuse an attempt: raise in mode `error`, warn once for each target in mode `warn`."""
        with self._lock:
            about = self.role, reason or str(foreign[0])
            is_new = about not in self._sentences
            if is_new:
                self._sentences[about] = self._explain(self, layer, foreign, reason)
            sentence = self._sentences[about]
            if is_new and self.role is Role.ENDED:
                # pytest no longer reports anything.
                print(f"{'ERROR' if self.mode == 'error' else 'WARNING'}: {sentence}", file=sys.stderr)
            elif is_new and self.mode == "warn":
                self._warn(sentence)
            if self.mode == "warn":
                return
            self.stopped = self.stopped or sentence
        raise StoppedInTest(sentence)

    def _warn(self, sentence: str) -> None:
        # Not `warnings.warn`, which a filter of the project may turn into an error inside the application.
        message = warnings.WarningMessage(pytest.PytestWarning(sentence), pytest.PytestWarning, "pgdibs", 1)
        self.config.hook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": message, "when": "runtest", "nodeid": "", "location": None}
        )
