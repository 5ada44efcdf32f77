"""Customers with a question, and the answers."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String, text
from sqlalchemy.orm import Mapped, mapped_column

from shop.models.base import Base, Created, Identified, Updated, one_of


class SupportCase(Identified, Updated, Base):
    """A question that somebody has to answer."""

    __tablename__ = "support_cases"
    __table_args__ = (
        one_of("status", "open", "answered", "closed"),
        one_of("priority", "low", "normal", "high"),
    )

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    order_id: Mapped[int | None] = mapped_column(ForeignKey("orders.id"))
    subject: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(20), server_default=text("'open'"))
    priority: Mapped[str] = mapped_column(String(20), server_default=text("'normal'"))
    assignee: Mapped[str | None] = mapped_column(String(120))


class SupportMessage(Identified, Created, Base):
    """One message of a case, from the customer or from the staff."""

    __tablename__ = "support_messages"
    __table_args__ = (one_of("author", "customer", "staff"),)

    case_id: Mapped[int] = mapped_column(ForeignKey("support_cases.id", ondelete="CASCADE"), index=True)
    author: Mapped[str] = mapped_column(String(20))
    body: Mapped[str]
