"""Routers for tables that need no more than list, read, create, change and delete."""

# No `from __future__ import annotations`: FastAPI reads the annotations of the functions below, which name local types.

from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, Query, Response
from sqlalchemy import func, inspect, select

from shop.database import RequestSession
from shop.errors import NotFound
from shop.models import Base
from shop.schemas import create_schema, read_schema, update_schema

ModelT = TypeVar("ModelT", bound=Base)
Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0)]


class Crud(Generic[ModelT]):
    """What the routers of one model do, apart from HTTP."""

    def __init__(self, model: type[ModelT]) -> None:
        self.model = model
        (self.key_column,) = inspect(model).primary_key
        self.key_type: type = self.key_column.type.python_type

    async def get(self, session: RequestSession, key: int | str) -> ModelT:
        """The row with that key, or `NotFound`."""
        row = await session.get(self.model, key)
        if row is None:
            raise NotFound(f"no {self.model.__name__} {key}")
        return row

    async def page(self, session: RequestSession, limit: int, offset: int) -> tuple[list[ModelT], int]:
        """A page of rows by key, and how many rows there are."""
        rows = await session.scalars(select(self.model).order_by(self.key_column).limit(limit).offset(offset))
        total = await session.scalar(select(func.count()).select_from(self.model))
        return list(rows), total or 0

    async def create(self, session: RequestSession, values: dict[str, Any]) -> ModelT:
        """Insert and commit."""
        row = self.model(**values)
        session.add(row)
        await session.commit()
        return row

    async def change(self, session: RequestSession, key: int | str, values: dict[str, Any]) -> ModelT:
        """Update and commit."""
        row = await self.get(session, key)
        for name, value in values.items():
            setattr(row, name, value)
        await session.flush()
        await session.refresh(row)
        await session.commit()
        return row

    async def delete(self, session: RequestSession, key: int | str) -> None:
        """Delete and commit."""
        await session.delete(await self.get(session, key))
        await session.commit()


def read_router(model: type[ModelT], path: str) -> APIRouter:
    """List and read."""
    crud = Crud(model)
    router = APIRouter(prefix=path, tags=[path.strip("/")])
    row_schema = read_schema(model)
    key_type = crud.key_type

    @router.get("", response_model=list[row_schema])  # type: ignore[valid-type]  # made from the model at run time
    async def list_rows(
        session: RequestSession, response: Response, limit: Limit = 50, offset: Offset = 0
    ) -> list[ModelT]:
        rows, total = await crud.page(session, limit, offset)
        response.headers["X-Total-Count"] = str(total)
        return rows

    @router.get("/{key}", response_model=row_schema)
    async def read_row(key: key_type, session: RequestSession) -> ModelT:  # type: ignore[valid-type]  # as above
        return await crud.get(session, key)

    return router


def crud_router(model: type[ModelT], path: str) -> APIRouter:
    """List, read, create, change, delete."""
    router = read_router(model, path)
    crud = Crud(model)
    row_schema, create_type, update_type = read_schema(model), create_schema(model), update_schema(model)
    key_type = crud.key_type

    @router.post("", status_code=201, response_model=row_schema)
    async def create_row(values: create_type, session: RequestSession) -> ModelT:  # type: ignore[valid-type]  # as above
        given: dict[str, Any] = values.model_dump(exclude_unset=True)  # type: ignore[attr-defined]  # a WriteSchema
        return await crud.create(session, given)

    @router.patch("/{key}", response_model=row_schema)
    async def change_row(
        key: key_type,  # type: ignore[valid-type]  # as above
        values: update_type,  # type: ignore[valid-type]  # as above
        session: RequestSession,
    ) -> ModelT:
        given: dict[str, Any] = values.model_dump(exclude_unset=True)  # type: ignore[attr-defined]  # a WriteSchema
        return await crud.change(session, key, given)

    @router.delete("/{key}", status_code=204)
    async def delete_row(key: key_type, session: RequestSession) -> None:  # type: ignore[valid-type]  # as above
        await crud.delete(session, key)

    return router
