"""The errors, one type for each `code` of the API; `str()` of each is a sentence that says what to do."""

from __future__ import annotations

from typing import Any


class PgdibsError(Exception):
    """Any failure of a call. `code`, `status` and `detail` are those of the daemon's answer; "" and 0 without an answer."""

    def __init__(self, sentence: str, code: str = "", status: int = 0, detail: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status
        self.detail = detail or sentence

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.code, self.status, self.detail)


class ConnectionStopped(BaseException):
    """A test process was about to connect to a Postgres database that pgdibs did not lease to it; `str()` names it and the cause.

    The pytest plugin raises it before the connection opens (`pgdibs_guard`). It is no `Exception` and no error of a driver, so
    `except OperationalError` and `except Exception` do not catch it. The run ends with its sentence even if code swallows it.
    """


class Unreachable(PgdibsError):
    """The address of the daemon gives no answer, no answer in time, or the answer of another program."""


class InvalidRequest(PgdibsError):
    """A value is malformed or out of range; `detail` names the field and the rule."""


class Unauthorized(PgdibsError):
    """The token is missing or wrong."""


class ForbiddenOrigin(PgdibsError):
    """The request carries the `Origin` of another site."""


class PoolNotFound(PgdibsError):
    """There is no such pool."""


class TemplateNotFound(PgdibsError):
    """There is no such template, or the pool has none yet."""


class LeaseNotFound(PgdibsError):
    """There is no such lease; the daemon remembers an ended lease for 24 hours."""


class DatabaseNotFound(PgdibsError):
    """There is no such kept database."""


class NotFound(PgdibsError):
    """The daemon has no such route; it may be older than this client."""


class MethodNotAllowed(PgdibsError):
    """The route does not take this method."""


class BodyTooLarge(PgdibsError):
    """The request is too large."""


class UnsupportedMediaType(PgdibsError):
    """The body must be JSON."""


class HostNotAllowed(PgdibsError):
    """The request's host name is none of PGDIBS_ALLOWED_HOSTS."""


class PoolInUse(PgdibsError):
    """The pool has leases."""


class TemplateInUse(PgdibsError):
    """Databases of this template are leased."""


class TemplateAmbiguous(PgdibsError):
    """The request names no fingerprint, and callers use several templates of the pool; `detail` lists them."""


class BuildTokenStale(PgdibsError):
    """The build was lost: for 60 seconds nothing renewed or used it."""


class TemplateNotBuilding(PgdibsError):
    """The template is not being built."""


class LeaseConflict(PgdibsError):
    """The same run, worker and alias hold a lease of another template."""


class ForeignDatabases(PgdibsError):
    """Databases that pgdibs did not create have names of this pool; `detail` lists them and how to drop them."""


class CapacityExceeded(PgdibsError):
    """The request exceeds what the pool can ever hold; `detail` names the limit."""


class LeaseEnded(PgdibsError):
    """The lease has ended; `detail` says how and when."""


class RunEnded(PgdibsError):
    """The run has ended; it gets no more leases."""


class TemplateFailed(PgdibsError):
    """The daemon's own build of the template failed; `detail` has the step and the end of its output."""


class PoolExhausted(PgdibsError):
    """No database became free in time; `detail` lists the holders."""


class TemplateBuilding(PgdibsError):
    """The template is still being built."""


class ServerUnavailable(PgdibsError):
    """The daemon cannot reach its Postgres server."""


class DiskFloor(PgdibsError):
    """Too little disk space is left on the server."""


class MachineBusy(PgdibsError):
    """The daemon has reached its limit of concurrent connections."""


class ShuttingDown(PgdibsError):
    """The daemon is shutting down."""


class Internal(PgdibsError):
    """A bug in the daemon; its log has more."""


BY_CODE: dict[str, type[PgdibsError]] = {
    "invalid_request": InvalidRequest,
    "unauthorized": Unauthorized,
    "forbidden_origin": ForbiddenOrigin,
    "pool_not_found": PoolNotFound,
    "template_not_found": TemplateNotFound,
    "lease_not_found": LeaseNotFound,
    "database_not_found": DatabaseNotFound,
    "not_found": NotFound,
    "method_not_allowed": MethodNotAllowed,
    "body_too_large": BodyTooLarge,
    "unsupported_media_type": UnsupportedMediaType,
    "host_not_allowed": HostNotAllowed,
    "pool_in_use": PoolInUse,
    "template_in_use": TemplateInUse,
    "template_ambiguous": TemplateAmbiguous,
    "build_token_stale": BuildTokenStale,
    "template_not_building": TemplateNotBuilding,
    "lease_conflict": LeaseConflict,
    "foreign_databases": ForeignDatabases,
    "capacity_exceeded": CapacityExceeded,
    "lease_ended": LeaseEnded,
    "run_ended": RunEnded,
    "template_failed": TemplateFailed,
    "pool_exhausted": PoolExhausted,
    "template_building": TemplateBuilding,
    "server_unavailable": ServerUnavailable,
    "disk_floor": DiskFloor,
    "machine_busy": MachineBusy,
    "shutting_down": ShuttingDown,
    "internal": Internal,
}
"""The codes of the API. A code that a newer daemon adds becomes a plain `PgdibsError`."""


def of_answer(status: int, body: Any, *, waited: str = "") -> PgdibsError:
    """The typed error of an unsuccessful answer; `waited` says how long the client waited, as in "asked for 180 s"."""
    problem = body if isinstance(body, dict) else {}
    code = str(problem.get("code") or "")
    detail = str(problem.get("detail") or problem.get("title") or "the daemon gave no reason")
    known = BY_CODE.get(code, PgdibsError)
    return known(f"{detail} ({code or 'no code'}, status {status}{waited and f', {waited}'})", code, status, detail)
