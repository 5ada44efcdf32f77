"""What the application reads from its environment, once, at import."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings by environment variable; the names are the field names in capitals."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    database_url: str
    """Of the web application: `postgresql+asyncpg://…`."""

    test_database_url: str | None = None
    """Of the background worker when it differs, the way many projects point their worker elsewhere under test."""

    worker_poll_seconds: float = 0.5
    """How long an idle worker waits before it looks for jobs again."""

    @property
    def worker_database_url(self) -> str:
        """Where the background worker connects: it opens sessions of its own, never the web application's."""
        return self.test_database_url or self.database_url


settings = Settings()
