"""Parcels: quotes, shipments, tracking."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shop.errors import Conflict, NotFound
from shop.models import Shipment, ShippingMethod, TrackingEvent
from shop.services import inventory
from shop.services.jobs import enqueue
from shop.services.orders import locked_order


async def quotes(session: AsyncSession, weight_grams: int) -> list[ShippingMethod]:
    """The active methods that take a parcel of that weight, cheapest first."""
    return list(
        await session.scalars(
            select(ShippingMethod)
            .where(ShippingMethod.is_active, ShippingMethod.maximum_weight_grams >= weight_grams)
            .order_by(ShippingMethod.price_cents, ShippingMethod.id)
        )
    )


async def ship(session: AsyncSession, order_id: int, tracking_code: str) -> Shipment:
    """Hand a paid order to the carrier: its reserved stock leaves the warehouse."""
    order = await locked_order(session, order_id)
    if order.status != "paid":
        raise Conflict(f"order {order.number} is {order.status}; only a paid one is shipped")
    await inventory.settle(session, order_id, shipped=True)
    shipment = Shipment(order_id=order_id, shipping_method_id=order.shipping_method_id, tracking_code=tracking_code)
    session.add(shipment)
    order.status = "shipped"
    enqueue(session, "order.shipped", order_id=order_id, tracking_code=tracking_code)
    await session.flush()
    await session.refresh(shipment)
    await session.commit()
    return shipment


async def track(session: AsyncSession, tracking_code: str, status: str, location: str) -> Shipment:
    """What the carrier reports; a delivered parcel makes a delivered order and takes no more reports."""
    found = await session.scalars(select(Shipment).where(Shipment.tracking_code == tracking_code).with_for_update())
    shipment = found.one_or_none()
    if shipment is None:
        raise NotFound(f"no shipment {tracking_code!r}")
    if shipment.status == "delivered":
        raise Conflict(f"shipment {tracking_code!r} is delivered")
    shipment.status = status
    session.add(TrackingEvent(shipment_id=shipment.id, status=status, location=location))
    if status == "delivered":
        order = await locked_order(session, shipment.order_id)
        order.status = "delivered"
    await session.flush()
    await session.refresh(shipment)
    await session.commit()
    return shipment


async def history(session: AsyncSession, tracking_code: str) -> list[TrackingEvent]:
    """The reports on a parcel, oldest first."""
    return list(
        await session.scalars(
            select(TrackingEvent)
            .join(Shipment, Shipment.id == TrackingEvent.shipment_id)
            .where(Shipment.tracking_code == tracking_code)
            .order_by(TrackingEvent.id)
        )
    )
