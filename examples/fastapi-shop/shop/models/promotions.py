"""Reasons to pay less: promotions, their coupons and who has used them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.models.base import Base, Created, Identified, one_of


class Promotion(Identified, Created, Base):
    """What a coupon does, from when to when, and from which sum on."""

    __tablename__ = "promotions"
    __table_args__ = (
        one_of("kind", "percent", "fixed", "free_shipping"),
        CheckConstraint("kind <> 'percent' or value between 1 and 100", name="percent_in_range"),
        CheckConstraint("ends_at is null or starts_at is null or starts_at < ends_at", name="starts_before_it_ends"),
    )

    name: Mapped[str] = mapped_column(String(120))
    kind: Mapped[str] = mapped_column(String(20))
    value: Mapped[int] = mapped_column(server_default=text("0"))
    minimum_cents: Mapped[int] = mapped_column(server_default=text("0"))
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))


class Coupon(Identified, Created, Base):
    """A code that brings a promotion, some number of times."""

    __tablename__ = "coupons"
    __table_args__ = (CheckConstraint("maximum_uses is null or used_count <= maximum_uses", name="uses_within_limit"),)

    promotion_id: Mapped[int] = mapped_column(ForeignKey("promotions.id"), index=True)
    code: Mapped[str] = mapped_column(String(40), unique=True)
    maximum_uses: Mapped[int | None]
    maximum_uses_per_customer: Mapped[int | None]
    used_count: Mapped[int] = mapped_column(server_default=text("0"))

    promotion: Mapped[Promotion] = relationship()


class CouponRedemption(Identified, Created, Base):
    """A coupon used in an order."""

    __tablename__ = "coupon_redemptions"

    coupon_id: Mapped[int] = mapped_column(ForeignKey("coupons.id"), index=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), unique=True)
    discount_cents: Mapped[int]
