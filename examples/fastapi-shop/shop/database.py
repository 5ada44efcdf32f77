"""The web application's engine, built at import, and the session that a request gets from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from shop.settings import settings

engine = create_async_engine(settings.database_url, pool_size=5, max_overflow=5)
session_factory = async_sessionmaker(engine, expire_on_commit=False)


async def request_session() -> AsyncIterator[AsyncSession]:
    """One session per request; the services commit, whatever they leave open is rolled back."""
    async with session_factory() as session:
        yield session


RequestSession = Annotated[AsyncSession, Depends(request_session)]
