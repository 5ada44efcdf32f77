"""The application: about fifty routers over one engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from shop.api import running, selling
from shop.api.tables import table_routers
from shop.database import engine
from shop.errors import install_error_answers


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the connections at the end."""
    yield
    await engine.dispose()


def create_app() -> FastAPI:
    """Put the routers together."""
    app = FastAPI(title="shop", lifespan=lifespan)
    install_error_answers(app)
    for router in [*table_routers(), *selling.ROUTERS, *running.ROUTERS]:
        app.include_router(router)
    return app


app = create_app()
