"""Accounts: register, default address, loyalty points, forget."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shop.errors import Conflict, Invalid, NotFound
from shop.models import Address, Customer, LoyaltyEntry, Order, Review
from shop.services.audit import record
from shop.services.jobs import enqueue


async def customer_of(session: AsyncSession, customer_id: int) -> Customer:
    """The customer, locked until the transaction ends."""
    customer = await session.get(Customer, customer_id, with_for_update=True)
    if customer is None:
        raise NotFound(f"no customer {customer_id}")
    return customer


async def register(session: AsyncSession, email: str, full_name: str) -> Customer:
    """Open an account and queue the welcome e-mail in the same transaction."""
    if "@" not in email:
        raise Invalid(f"{email!r} is no e-mail address")
    customer = Customer(email=email, full_name=full_name)
    session.add(customer)
    await session.flush()
    enqueue(session, "customer.welcome", customer_id=customer.id)
    await session.flush()
    await session.refresh(customer)
    await session.commit()
    return customer


async def make_default_address(session: AsyncSession, customer_id: int, address_id: int) -> Address:
    """Make one address the default; a partial unique index sees to it that there is one at most."""
    await customer_of(session, customer_id)
    address = await session.get(Address, address_id)
    if address is None or address.customer_id != customer_id:
        raise NotFound(f"customer {customer_id} has no address {address_id}")
    await session.execute(update(Address).where(Address.customer_id == customer_id).values(is_default=False))
    address.is_default = True
    await session.flush()
    await session.refresh(address)
    await session.commit()
    return address


async def add_points(session: AsyncSession, customer_id: int, points: int, reason: str) -> int:
    """Give points or, when negative, take them; never more than there are. The new balance."""
    await customer_of(session, customer_id)
    balance = await points_balance(session, customer_id)
    if balance + points < 0:
        raise Conflict(f"customer {customer_id} has {balance} points")
    session.add(LoyaltyEntry(customer_id=customer_id, points=points, reason=reason))
    await session.commit()
    return balance + points


async def points_balance(session: AsyncSession, customer_id: int) -> int:
    """The sum of a customer's points."""
    balance = await session.scalar(
        select(func.coalesce(func.sum(LoyaltyEntry.points), 0)).where(LoyaltyEntry.customer_id == customer_id)
    )
    return int(balance or 0)


async def anonymise(session: AsyncSession, customer_id: int, actor: str) -> Customer:
    """Forget who somebody was; orders stay, for the tax office. Refused while an order is under way."""
    customer = await customer_of(session, customer_id)
    under_way = await session.scalar(
        select(func.count())
        .select_from(Order)
        .where(Order.customer_id == customer_id, Order.status.in_(("placed", "paid", "shipped")))
    )
    if under_way:
        raise Conflict(f"customer {customer_id} has {under_way} orders under way")
    customer.email = f"anonymous-{customer_id}@invalid"
    customer.full_name = "anonymous"
    customer.is_active = False
    customer.anonymised_at = func.now()
    await session.execute(
        update(Address).where(Address.customer_id == customer_id).values(street="-", city="-", postcode="-")
    )
    await session.execute(update(Review).where(Review.customer_id == customer_id).values(body=""))
    record(session, actor, "anonymise", "customer", customer_id)
    await session.flush()
    await session.refresh(customer)
    await session.commit()
    return customer
