"""Templates: the fingerprint of the files that define a schema, and a build by exactly one process."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from pgdibs import granted
from pgdibs.calls import Caller
from pgdibs.errors import PgdibsError
from pgdibs.transport import segment

RENEW_SECONDS = 20.0
"""The interval of build renewals; after 60 s without one the daemon lets another caller build."""

WAIT_SECONDS = 30.0
"""How long the daemon lets one request wait for the build of another caller."""

SEAL_SECONDS = 600.0
"""How long a seal may take: it vacuums the template, about a minute for 10 GB."""

DETAIL_CHARACTERS = 2000
"""How many characters of an error go to the daemon; the last ones do."""


@dataclass(frozen=True)
class TemplateReady:
    """A template that exists. `reused`: this call did not build it. `seconds`: how long the call took."""

    reused: bool
    seconds: float
    database: str
    input_changes: Optional[dict[str, Any]] = None
    """Of a template that this call has built: how its inputs differ from those of the pool's template before (`since`, `changed`,
    `added`, `removed`, `more`); None if the inputs of one of them are unknown."""


def fingerprint_of(root: Path, globs: Iterable[str]) -> str:
    """A SHA-256 over names and contents of all files below `root` that match one of `globs` (`**` goes down).

    Skips compiled Python. Raises `ValueError` for a glob that matches no file, because it would not notice a change.
    """
    return combined(inputs_of(root, globs))


def inputs_of(root: Path, globs: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each file of `fingerprint_of`, by name, for the `inputs` of `Client.ensure_template`."""
    paths: set[Path] = set()
    for pattern in globs:
        found = {path for path in root.glob(pattern) if path.is_file() and "__pycache__" not in path.parts}
        if not found:
            raise ValueError(f"`{pattern}` matches no file below {root}")
        paths |= found
    files = sorted((path.relative_to(root).as_posix(), path) for path in paths)
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files}


def combined(inputs: dict[str, str]) -> str:
    """The fingerprint of the files with these hashes."""
    digest = hashlib.sha256()
    for name, file_digest in sorted(inputs.items()):
        digest.update(name.encode(errors="surrogateescape") + b"\0")
        digest.update(bytes.fromhex(file_digest))
    return digest.hexdigest()


def template_path(pool: str, fingerprint: str) -> str:
    """The path of a template in the API."""
    return f"/v1/pools/{segment('pool', pool)}/templates/{segment('fingerprint', fingerprint)}"


def ensure(
    client: Caller,
    pool: str,
    fingerprint: str,
    build: Callable[[str], None],
    holder: str,
    inputs: Optional[dict[str, str]],
    deadline_seconds: float,
) -> TemplateReady:
    """Implements `Client.ensure_template`."""
    started = time.monotonic()
    path = template_path(pool, fingerprint)
    body: dict[str, Any] = {"holder": holder, "wait_seconds": WAIT_SECONDS, **({"via": client.via} if client.via else {})}
    if inputs:
        body["fingerprint_inputs"] = inputs
    answer = client.call_through_restarts("PUT", path, body, deadline_seconds)
    if answer.status != 201:
        return TemplateReady(True, time.monotonic() - started, answer.body["database"])
    granted.add(answer.body["build"]["url"])
    token = {"token": answer.body["build"]["token"]}
    try:
        with _renewed(client, path, token):
            build(answer.body["build"]["url"])
    except BaseException as error:
        detail = (str(error) or type(error).__name__)[-DETAIL_CHARACTERS:]
        # The error of the build matters more; a build that the client cannot abandon is lost after 60 s.
        with suppress(PgdibsError):
            client.ask("POST", f"{path}/abandon", {**token, "detail": detail}, 10.0)
        raise
    sealed = client.call_through_restarts("POST", f"{path}/seal", token, deadline_seconds, SEAL_SECONDS)
    changes = answer.body.get("input_changes")
    return TemplateReady(False, time.monotonic() - started, sealed.body["database"], changes)


@contextmanager
def _renewed(client: Caller, path: str, token: dict[str, Any]) -> Iterator[None]:
    """Renew the build in a thread. A lost build makes the seal fail."""
    has_ended = threading.Event()

    def renew() -> None:
        while not has_ended.wait(RENEW_SECONDS):
            with suppress(PgdibsError):
                client.ask("POST", f"{path}/renew", token, 10.0)

    threading.Thread(target=renew, name="pgdibs-build", daemon=True).start()
    try:
        yield
    finally:
        has_ended.set()
