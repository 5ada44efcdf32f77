"""Money: payments, refunds, gift cards."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Sequence, String, text
from sqlalchemy.orm import Mapped, mapped_column

from shop.models.base import Base, Created, Identified, Updated, one_of

invoice_numbers = Sequence("invoice_numbers", start=1, metadata=Base.metadata)
"""Invoice numbers are given when a payment is captured."""


class Payment(Identified, Updated, Base):
    """Money for an order; the idempotency key makes a repeated request harmless."""

    __tablename__ = "payments"
    __table_args__ = (
        one_of("method", "card", "transfer", "gift_card"),
        one_of("status", "authorised", "captured", "failed", "refunded"),
        CheckConstraint("amount_cents > 0", name="amount_positive"),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    method: Mapped[str] = mapped_column(String(20))
    amount_cents: Mapped[int]
    status: Mapped[str] = mapped_column(String(20), server_default=text("'authorised'"))
    idempotency_key: Mapped[str] = mapped_column(String(80), unique=True)
    invoice_number: Mapped[int | None] = mapped_column(unique=True)


class Refund(Identified, Created, Base):
    """Money given back."""

    __tablename__ = "refunds"
    __table_args__ = (CheckConstraint("amount_cents > 0", name="amount_positive"),)

    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"), index=True)
    amount_cents: Mapped[int]
    reason: Mapped[str] = mapped_column(String(200), server_default=text("''"))


class GiftCard(Identified, Updated, Base):
    """Money paid in advance."""

    __tablename__ = "gift_cards"
    __table_args__ = (CheckConstraint("balance_cents >= 0", name="balance_not_negative"),)

    code: Mapped[str] = mapped_column(String(40), unique=True)
    currency_code: Mapped[str] = mapped_column(ForeignKey("currencies.code"))
    balance_cents: Mapped[int]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
