"""Coupons: may it be used, and what does it bring."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from shop.errors import Conflict, NotFound
from shop.models import Coupon, CouponRedemption, Promotion


@dataclass(frozen=True)
class Reduction:
    """What a coupon takes off a cart."""

    discount_cents: int
    is_shipping_free: bool


def reduction(promotion: Promotion, subtotal_cents: int) -> Reduction:
    """A percentage is rounded down, in the shop's favour; a fixed sum never exceeds the goods."""
    if promotion.kind == "percent":
        return Reduction(subtotal_cents * promotion.value // 100, False)
    if promotion.kind == "fixed":
        return Reduction(min(promotion.value, subtotal_cents), False)
    return Reduction(0, True)


async def usable_coupon(session: AsyncSession, code: str, customer_id: int) -> Coupon:
    """The coupon, locked; or a refusal that says which rule stands against it."""
    found = await session.scalars(
        select(Coupon).where(Coupon.code == code).options(selectinload(Coupon.promotion)).with_for_update(of=Coupon)
    )
    coupon = found.one_or_none()
    if coupon is None:
        raise NotFound(f"no coupon {code!r}")
    promotion, now = coupon.promotion, datetime.now(timezone.utc)
    if not promotion.is_active:
        raise Conflict(f"coupon {code!r}: its promotion is switched off")
    if promotion.starts_at is not None and now < promotion.starts_at:
        raise Conflict(f"coupon {code!r} is not valid yet")
    if promotion.ends_at is not None and now >= promotion.ends_at:
        raise Conflict(f"coupon {code!r} is not valid any more")
    if coupon.maximum_uses is not None and coupon.used_count >= coupon.maximum_uses:
        raise Conflict(f"coupon {code!r} is used up")
    if coupon.maximum_uses_per_customer is not None:
        used = await session.scalar(
            select(func.count())
            .select_from(CouponRedemption)
            .where(CouponRedemption.coupon_id == coupon.id, CouponRedemption.customer_id == customer_id)
        )
        if (used or 0) >= coupon.maximum_uses_per_customer:
            raise Conflict(f"coupon {code!r} was already used by customer {customer_id}")
    return coupon
