"""Stock: receive, adjust, transfer, reserve, release, consume; and purchasing."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from shop.errors import Conflict, Invalid, NotFound
from shop.models import PurchaseOrder, StockItem, StockMovement, StockReservation, Warehouse
from shop.services.jobs import enqueue


async def locked_stock_item(session: AsyncSession, warehouse_id: int, variant_id: int) -> StockItem:
    """The row of that variant in that warehouse, made when missing, locked until the transaction ends."""
    await session.execute(
        insert(StockItem).values(warehouse_id=warehouse_id, variant_id=variant_id).on_conflict_do_nothing()
    )
    found = await session.scalars(
        select(StockItem)
        .where(StockItem.warehouse_id == warehouse_id, StockItem.variant_id == variant_id)
        .with_for_update()
    )
    return found.one()


async def receive(session: AsyncSession, warehouse_id: int, variant_id: int, quantity: int) -> StockItem:
    """Goods have come in."""
    if quantity <= 0:
        raise Invalid("a quantity received is positive")
    item = await locked_stock_item(session, warehouse_id, variant_id)
    item.on_hand += quantity
    session.add(StockMovement(stock_item_id=item.id, quantity=quantity, reason="received"))
    await session.commit()
    return item


async def adjust(session: AsyncSession, stock_item_id: int, counted: int) -> StockItem:
    """Somebody has counted: what was counted is what there is."""
    item = await session.get(StockItem, stock_item_id, with_for_update=True)
    if item is None:
        raise NotFound(f"no stock item {stock_item_id}")
    if counted < item.reserved:
        raise Conflict(f"{item.reserved} pieces are promised to orders, {counted} were counted")
    session.add(StockMovement(stock_item_id=item.id, quantity=counted - item.on_hand, reason="adjusted"))
    item.on_hand = counted
    await session.commit()
    return item


async def transfer(session: AsyncSession, variant_id: int, source_id: int, target_id: int, quantity: int) -> None:
    """Move stock between warehouses; rows are locked in one order, so that two transfers cannot deadlock."""
    if quantity <= 0 or source_id == target_id:
        raise Invalid("a transfer needs a positive quantity and two warehouses")
    items = {
        warehouse_id: await locked_stock_item(session, warehouse_id, variant_id)
        for warehouse_id in sorted((source_id, target_id))
    }
    source, target = items[source_id], items[target_id]
    if source.available < quantity:
        raise Conflict(f"{source.available} pieces are available, {quantity} were asked for")
    source.on_hand -= quantity
    target.on_hand += quantity
    session.add(StockMovement(stock_item_id=source.id, quantity=-quantity, reason="transferred"))
    session.add(StockMovement(stock_item_id=target.id, quantity=quantity, reason="transferred"))
    await session.commit()


async def reserve(session: AsyncSession, variant_id: int, quantity: int, order_id: int | None) -> None:
    """Promise stock, from the warehouse of the lowest priority number on; does not commit."""
    items = await session.scalars(
        select(StockItem)
        .join(Warehouse, Warehouse.id == StockItem.warehouse_id)
        .where(StockItem.variant_id == variant_id)
        .order_by(Warehouse.priority, StockItem.id)
        .with_for_update(of=StockItem)
    )
    missing = quantity
    for item in items:
        taken = min(missing, item.available)
        if taken > 0:
            item.reserved += taken
            missing -= taken
            session.add(StockReservation(stock_item_id=item.id, order_id=order_id, quantity=taken))
            if item.available <= item.reorder_point:
                enqueue(session, "stock.low", stock_item_id=item.id)
    if missing:
        raise Conflict(f"variant {variant_id}: {missing} of {quantity} pieces are missing")


async def settle(session: AsyncSession, order_id: int, *, shipped: bool) -> int:
    """End an order's reservations: goods leave if `shipped`, else are free. How many pieces; does not commit."""
    reservations = await session.scalars(
        select(StockReservation)
        .where(StockReservation.order_id == order_id, StockReservation.status == "active")
        .order_by(StockReservation.stock_item_id)
        .options(selectinload(StockReservation.stock_item))
        .with_for_update()
    )
    pieces = 0
    for reservation in reservations:
        item = reservation.stock_item
        item.reserved -= reservation.quantity
        if shipped:
            item.on_hand -= reservation.quantity
            session.add(StockMovement(stock_item_id=item.id, quantity=-reservation.quantity, reason="shipped"))
        reservation.status = "consumed" if shipped else "released"
        pieces += reservation.quantity
    return pieces


async def availability(session: AsyncSession, variant_id: int) -> int:
    """How many pieces of a variant may still be promised, everywhere together."""
    available = await session.scalar(
        select(func.coalesce(func.sum(StockItem.on_hand - StockItem.reserved), 0)).where(
            StockItem.variant_id == variant_id
        )
    )
    return int(available or 0)


async def low_stock(session: AsyncSession) -> list[StockItem]:
    """Where to order: available at or below the reorder point."""
    return list(
        await session.scalars(
            select(StockItem)
            .where(StockItem.on_hand - StockItem.reserved <= StockItem.reorder_point)
            .order_by(StockItem.id)
        )
    )


async def receive_purchase(session: AsyncSession, purchase_order_id: int, quantities: dict[int, int]) -> PurchaseOrder:
    """A delivery of a supplier, by variant; more than was ordered is refused as a whole."""
    purchase = await session.get(
        PurchaseOrder, purchase_order_id, with_for_update=True, options=[selectinload(PurchaseOrder.lines)]
    )
    if purchase is None:
        raise NotFound(f"no purchase order {purchase_order_id}")
    if purchase.status in ("received", "cancelled"):
        raise Conflict(f"purchase order {purchase.reference} is {purchase.status}")
    lines = {line.variant_id: line for line in purchase.lines}
    for variant_id, quantity in sorted(quantities.items()):
        line = lines.get(variant_id)
        if line is None or line.received_quantity + quantity > line.quantity:
            raise Invalid(f"variant {variant_id} was not ordered in that quantity")
        line.received_quantity += quantity
        item = await locked_stock_item(session, purchase.warehouse_id, variant_id)
        item.on_hand += quantity
        session.add(StockMovement(stock_item_id=item.id, quantity=quantity, reason="received"))
    complete = all(line.received_quantity == line.quantity for line in purchase.lines)
    purchase.status = "received" if complete else "partly_received"
    await session.flush()
    await session.refresh(purchase)
    await session.commit()
    return purchase
