"""Who did what, and the table that shows that a test session's database was clean."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shop.models.base import Base, Created, Identified


class AuditEntry(Identified, Created, Base):
    """One deed of one actor."""

    __tablename__ = "audit_entries"

    actor: Mapped[str] = mapped_column(String(120))
    action: Mapped[str] = mapped_column(String(60), index=True)
    entity: Mapped[str] = mapped_column(String(60))
    entity_id: Mapped[int]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class SessionWitness(Identified, Created, Base):
    """Empty in the template. Each test session writes one row: a second row would mean a database handed out twice."""

    __tablename__ = "session_witnesses"
    __table_args__ = (UniqueConstraint("run", "worker", "generation"),)

    run: Mapped[str] = mapped_column(String(64))
    worker: Mapped[str] = mapped_column(String(64))
    generation: Mapped[int]
