"""Money in and out: authorise, capture, refund, gift cards."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shop.errors import Conflict, Invalid, NotFound
from shop.models import GiftCard, Order, Payment, Refund
from shop.models.orders import order_numbers
from shop.models.payments import invoice_numbers
from shop.services.audit import record
from shop.services.jobs import enqueue
from shop.services.orders import locked_order

__all__ = ["authorise", "capture", "next_numbers", "redeem_gift_card", "refund"]


async def _still_owed(session: AsyncSession, order: Order) -> int:
    covered = await session.scalar(
        select(func.coalesce(func.sum(Payment.amount_cents), 0)).where(
            Payment.order_id == order.id, Payment.status.in_(("authorised", "captured"))
        )
    )
    return order.total_cents - int(covered or 0)


async def _repeated(session: AsyncSession, order_id: int, idempotency_key: str) -> Payment | None:
    found = await session.scalars(select(Payment).where(Payment.idempotency_key == idempotency_key))
    payment = found.one_or_none()
    if payment is not None and payment.order_id != order_id:
        raise Conflict(f"the key {idempotency_key!r} was used for another order")
    return payment


async def authorise(
    session: AsyncSession, order_id: int, method: str, amount_cents: int, idempotency_key: str
) -> Payment:
    """Promise money for an order; the same key again gives the same payment."""
    order = await locked_order(session, order_id)
    repeated = await _repeated(session, order_id, idempotency_key)
    if repeated is not None:
        return repeated
    if order.status != "placed":
        raise Conflict(f"order {order.number} is {order.status}")
    owed = await _still_owed(session, order)
    if not 0 < amount_cents <= owed:
        raise Invalid(f"{owed} cents are owed for order {order.number}, not {amount_cents}")
    payment = Payment(order_id=order_id, method=method, amount_cents=amount_cents, idempotency_key=idempotency_key)
    session.add(payment)
    await session.flush()
    await session.refresh(payment)
    await session.commit()
    return payment


async def capture(session: AsyncSession, payment_id: int) -> Payment:
    """Take the money, give an invoice number; the order is paid when everything owed has been captured."""
    payment = await session.get(Payment, payment_id)
    if payment is None:
        raise NotFound(f"no payment {payment_id}")
    order = await locked_order(session, payment.order_id)
    await session.refresh(payment, with_for_update=True)
    if payment.status != "authorised":
        raise Conflict(f"payment {payment_id} is {payment.status}")
    payment.status = "captured"
    payment.invoice_number = await session.scalar(invoice_numbers.next_value().select())
    await session.flush()
    captured = await session.scalar(
        select(func.sum(Payment.amount_cents)).where(Payment.order_id == order.id, Payment.status == "captured")
    )
    if int(captured or 0) == order.total_cents:
        order.status = "paid"
        enqueue(session, "webhook", event="order.paid", order_id=order.id)
    await session.flush()
    await session.refresh(payment)
    await session.commit()
    return payment


async def refund(session: AsyncSession, payment_id: int, amount_cents: int, reason: str, actor: str) -> Refund:
    """Give money back, never more than was captured; an order whose money is all back is refunded."""
    payment = await session.get(Payment, payment_id, with_for_update=True)
    if payment is None:
        raise NotFound(f"no payment {payment_id}")
    if payment.status != "captured":
        raise Conflict(f"payment {payment_id} is {payment.status}")
    earlier = await session.scalar(
        select(func.coalesce(func.sum(Refund.amount_cents), 0)).where(Refund.payment_id == payment_id)
    )
    left = payment.amount_cents - int(earlier or 0)
    if not 0 < amount_cents <= left:
        raise Invalid(f"{left} cents of payment {payment_id} can be refunded, not {amount_cents}")
    given_back = Refund(payment_id=payment_id, amount_cents=amount_cents, reason=reason)
    session.add(given_back)
    if amount_cents == left:
        payment.status = "refunded"
        await session.flush()
        order = await locked_order(session, payment.order_id)
        kept = await session.scalar(
            select(func.count())
            .select_from(Payment)
            .where(Payment.order_id == order.id, Payment.status.in_(("authorised", "captured")))
        )
        if not kept:
            order.status = "refunded"
    record(session, actor, "refund", "payment", payment_id, amount_cents=amount_cents)
    await session.flush()
    await session.refresh(given_back)
    await session.commit()
    return given_back


async def redeem_gift_card(session: AsyncSession, order_id: int, code: str) -> Payment:
    """Pay as much as the card holds and the order needs; captured at once."""
    order = await locked_order(session, order_id)
    found = await session.scalars(select(GiftCard).where(GiftCard.code == code).with_for_update())
    card = found.one_or_none()
    if card is None or not card.is_active:
        raise NotFound(f"no active gift card {code!r}")
    if card.currency_code != order.currency_code:
        raise Conflict(f"gift card {code!r} is in {card.currency_code}, the order in {order.currency_code}")
    amount = min(card.balance_cents, await _still_owed(session, order))
    if amount <= 0:
        raise Conflict(f"gift card {code!r} is empty, or nothing is owed")
    card.balance_cents -= amount
    payment = Payment(
        order_id=order_id, method="gift_card", amount_cents=amount, idempotency_key=f"gift-{card.id}-{order_id}"
    )
    session.add(payment)
    await session.flush()
    return await capture(session, payment.id)


async def next_numbers(session: AsyncSession) -> dict[str, int]:
    """Draw the next order and invoice number, for numbering forms by hand; drawn numbers do not come back."""
    return {
        "order": await session.scalar(order_numbers.next_value().select()) or 0,
        "invoice": await session.scalar(invoice_numbers.next_value().select()) or 0,
    }
