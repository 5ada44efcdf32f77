"""What can go wrong by meaning, and the HTTP status each meaning has."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError


class ShopError(Exception):
    """A refusal with a sentence for the caller."""

    status = 400

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFound(ShopError):
    """The thing that the request names does not exist."""

    status = 404


class Conflict(ShopError):
    """The thing exists, but its state does not allow this."""

    status = 409


class Invalid(ShopError):
    """The request is well formed and makes no sense."""

    status = 422


# PostgreSQL, Appendix A: integrity violations (class 23) and data exceptions (class 22).
STATUS_BY_SQLSTATE = {"23505": 409, "23503": 409, "23514": 422, "23502": 422, "23P01": 409, "22001": 422, "22003": 422}


def sqlstate_of(error: DBAPIError) -> str | None:
    """The SQLSTATE of a database error: asyncpg and psycopg both keep it in `sqlstate`."""
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


async def _answer_shop_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ShopError)
    return JSONResponse({"detail": error.detail}, status_code=error.status)


async def _answer_database_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBAPIError)
    sqlstate = sqlstate_of(error)
    status = STATUS_BY_SQLSTATE.get(sqlstate or "")
    if status is None:
        raise error
    return JSONResponse({"detail": "the database refused this", "sqlstate": sqlstate}, status_code=status)


def install_error_answers(app: FastAPI) -> None:
    """Turn our errors and the database's constraint violations into answers; anything else stays a 500."""
    app.add_exception_handler(ShopError, _answer_shop_error)
    app.add_exception_handler(DBAPIError, _answer_database_error)
