"""What the background worker does and leaves behind: jobs, e-mails, webhook deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shop.models.base import Base, Created, Identified, one_of


class Job(Identified, Created, Base):
    """The outbox: written in the transaction that wants something done, done by the worker later."""

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("status", "queued", "done", "failed"),
        Index("ix_jobs_queued", "run_at", "id", postgresql_where=text("status = 'queued'")),
    )

    kind: Mapped[str] = mapped_column(String(60))
    payload: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    status: Mapped[str] = mapped_column(String(20), server_default=text("'queued'"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    maximum_attempts: Mapped[int] = mapped_column(server_default=text("3"))
    run_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    result: Mapped[dict[str, Any] | None]


class EmailMessage(Identified, Created, Base):
    """An e-mail, sent at most once per job."""

    __tablename__ = "email_messages"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    recipient: Mapped[str] = mapped_column(String(200), index=True)
    subject: Mapped[str] = mapped_column(String(200))
    body: Mapped[str]


class Webhook(Identified, Created, Base):
    """Somebody who wants to know about an event."""

    __tablename__ = "webhooks"

    event: Mapped[str] = mapped_column(String(60), index=True)
    url: Mapped[str] = mapped_column(String(500))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))


class WebhookDelivery(Identified, Created, Base):
    """An event told to one listener."""

    __tablename__ = "webhook_deliveries"

    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    body: Mapped[dict[str, Any]]
