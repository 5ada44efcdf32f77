"""Runs the migrations on the database that `DATABASE_URL` names, through asyncpg whatever its driver prefix says."""

from __future__ import annotations

import asyncio
import os

from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from alembic import context
from shop.models import Base


def run_migrations(connection: Connection) -> None:
    """All pending revisions in one transaction: a template is complete or not there at all."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=False)
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    """Connect and migrate."""
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run_migrations)
    await engine.dispose()


asyncio.run(run_online())
