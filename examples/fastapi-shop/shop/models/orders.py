"""Buying: carts and the orders they become."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Sequence, String, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.models.base import Base, Created, Identified, Updated, one_of

order_numbers = Sequence("order_numbers", start=1000, metadata=Base.metadata)
"""Order numbers are what customers see; the first order of a clean database is S-1000."""


class Cart(Identified, Updated, Base):
    """What a customer is about to buy."""

    __tablename__ = "carts"
    __table_args__ = (one_of("status", "open", "ordered", "abandoned"),)

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    currency_code: Mapped[str] = mapped_column(ForeignKey("currencies.code"))
    coupon_id: Mapped[int | None] = mapped_column(ForeignKey("coupons.id"))
    status: Mapped[str] = mapped_column(String(20), server_default=text("'open'"))

    lines: Mapped[list[CartLine]] = relationship(order_by="CartLine.id", cascade="all, delete-orphan")


class CartLine(Identified, Base):
    """A variant in a cart."""

    __tablename__ = "cart_lines"
    __table_args__ = (
        UniqueConstraint("cart_id", "variant_id"),
        CheckConstraint("quantity > 0", name="quantity_positive"),
    )

    cart_id: Mapped[int] = mapped_column(ForeignKey("carts.id", ondelete="CASCADE"))
    variant_id: Mapped[int] = mapped_column(ForeignKey("product_variants.id"))
    quantity: Mapped[int]


class Order(Identified, Updated, Base):
    """What a customer has bought, with the sums as they were then."""

    __tablename__ = "orders"
    __table_args__ = (
        one_of("status", "placed", "paid", "shipped", "delivered", "cancelled", "refunded"),
        CheckConstraint(
            "total_cents = subtotal_cents - discount_cents + shipping_cents + tax_cents", name="total_adds_up"
        ),
    )

    number: Mapped[str] = mapped_column(
        String(20), unique=True, server_default=text("'S-' || nextval('order_numbers')::text")
    )
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    cart_id: Mapped[int | None] = mapped_column(ForeignKey("carts.id"), unique=True)
    address_id: Mapped[int] = mapped_column(ForeignKey("addresses.id"))
    shipping_method_id: Mapped[int] = mapped_column(ForeignKey("shipping_methods.id"))
    currency_code: Mapped[str] = mapped_column(ForeignKey("currencies.code"))
    status: Mapped[str] = mapped_column(String(20), server_default=text("'placed'"))
    subtotal_cents: Mapped[int]
    discount_cents: Mapped[int]
    shipping_cents: Mapped[int]
    tax_cents: Mapped[int]
    total_cents: Mapped[int]
    placed_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)

    lines: Mapped[list[OrderLine]] = relationship(order_by="OrderLine.id")


class OrderLine(Identified, Base):
    """A variant in an order, with price and tax as they were then."""

    __tablename__ = "order_lines"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity_positive"),)

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), index=True)
    variant_id: Mapped[int] = mapped_column(ForeignKey("product_variants.id"), index=True)
    description: Mapped[str] = mapped_column(String(400))
    quantity: Mapped[int]
    unit_price_cents: Mapped[int]
    tax_basis_points: Mapped[int]


class OrderEvent(Identified, Created, Base):
    """What happened to an order; status changes are written by a trigger (migration 0007)."""

    __tablename__ = "order_events"

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(40))
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
