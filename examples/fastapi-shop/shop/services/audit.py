"""Writing down who did what."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from shop.models import AuditEntry


def record(session: AsyncSession, actor: str, action: str, entity: str, entity_id: int, **details: Any) -> None:
    """Add an entry to the session; it is committed, or not, together with the deed."""
    session.add(AuditEntry(actor=actor, action=action, entity=entity, entity_id=entity_id, details=details))
