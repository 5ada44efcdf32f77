"""Pydantic models derived from the SQLAlchemy models, for the routers that show tables as they are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from sqlalchemy import Column, String, inspect

from shop.models import Base

DATABASE_SETS = frozenset({"id", "created_at", "updated_at"})
"""Columns that only the database writes."""


class RowSchema(BaseModel):
    """What is read from a row."""

    model_config = ConfigDict(from_attributes=True)


class WriteSchema(BaseModel):
    """What is written to a row; a field that is no column is an error."""

    model_config = ConfigDict(extra="forbid")


def columns_of(model: type[Base]) -> list[Column[Any]]:
    """The columns of a model, in the order of its table."""
    return list(inspect(model).local_table.columns)  # type: ignore[arg-type]  # FromClause.columns holds Columns here


def _python_type(column: Column[Any]) -> Any:
    python_type: Any = column.type.python_type
    if python_type is dict:
        python_type = dict[str, Any]
    return python_type | None if column.nullable else python_type


def _limits(column: Column[Any]) -> dict[str, Any]:
    if isinstance(column.type, String) and column.type.length is not None:
        return {"max_length": column.type.length}
    return {}


def read_schema(model: type[Base]) -> type[RowSchema]:
    """All columns."""
    fields: dict[str, Any] = {column.key: (_python_type(column), ...) for column in columns_of(model)}
    return create_model(f"{model.__name__}Read", __base__=RowSchema, **fields)


def create_schema(model: type[Base]) -> type[WriteSchema]:
    """The columns that a caller may give; those with a default or null may be left out."""
    fields: dict[str, Any] = {}
    for column in columns_of(model):
        if column.key in DATABASE_SETS:
            continue
        optional = column.nullable or column.server_default is not None
        fields[column.key] = (_python_type(column), Field(default=None if optional else ..., **_limits(column)))
    return create_model(f"{model.__name__}Create", __base__=WriteSchema, **fields)


def update_schema(model: type[Base]) -> type[WriteSchema]:
    """The same columns without the primary key, each of them optional."""
    fields: dict[str, Any] = {
        column.key: (_python_type(column), Field(default=None, **_limits(column)))
        for column in columns_of(model)
        if column.key not in DATABASE_SETS and not column.primary_key
    }
    return create_model(f"{model.__name__}Update", __base__=WriteSchema, **fields)
