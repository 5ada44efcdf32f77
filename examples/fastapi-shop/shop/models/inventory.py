"""Where the goods are: warehouses, stock with reservations and movements, purchasing."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.models.base import Base, Created, Identified, Updated, one_of


class Warehouse(Identified, Created, Base):
    """A place that holds stock."""

    __tablename__ = "warehouses"

    code: Mapped[str] = mapped_column(String(20), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    country_code: Mapped[str] = mapped_column(ForeignKey("countries.code"))
    priority: Mapped[int] = mapped_column(server_default=text("100"))


class StockItem(Identified, Base):
    """How much of a variant a warehouse has, and how much of that is promised."""

    __tablename__ = "stock_items"
    __table_args__ = (
        UniqueConstraint("warehouse_id", "variant_id"),
        CheckConstraint("reserved >= 0 and reserved <= on_hand", name="reserved_within_stock"),
    )

    warehouse_id: Mapped[int] = mapped_column(ForeignKey("warehouses.id"))
    variant_id: Mapped[int] = mapped_column(ForeignKey("product_variants.id"), index=True)
    on_hand: Mapped[int] = mapped_column(server_default=text("0"))
    reserved: Mapped[int] = mapped_column(server_default=text("0"))
    reorder_point: Mapped[int] = mapped_column(server_default=text("0"))

    @property
    def available(self) -> int:
        """What may still be promised."""
        return self.on_hand - self.reserved


class StockReservation(Identified, Created, Base):
    """Stock promised to an order until it ships or is cancelled."""

    __tablename__ = "stock_reservations"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity_positive"),
        one_of("status", "active", "released", "consumed"),
    )

    stock_item_id: Mapped[int] = mapped_column(ForeignKey("stock_items.id"), index=True)
    order_id: Mapped[int | None] = mapped_column(ForeignKey("orders.id"), index=True)
    quantity: Mapped[int]
    status: Mapped[str] = mapped_column(String(20), server_default=text("'active'"))

    stock_item: Mapped[StockItem] = relationship()


class StockMovement(Identified, Created, Base):
    """Every change of `on_hand`, with its reason."""

    __tablename__ = "stock_movements"
    __table_args__ = (one_of("reason", "received", "adjusted", "transferred", "shipped", "returned"),)

    stock_item_id: Mapped[int] = mapped_column(ForeignKey("stock_items.id"), index=True)
    quantity: Mapped[int]
    reason: Mapped[str] = mapped_column(String(20))


class Supplier(Identified, Created, Base):
    """Whom the shop buys from."""

    __tablename__ = "suppliers"

    name: Mapped[str] = mapped_column(String(120), unique=True)
    email: Mapped[str | None] = mapped_column(String(200))


class PurchaseOrder(Identified, Updated, Base):
    """An order that the shop places with a supplier."""

    __tablename__ = "purchase_orders"
    __table_args__ = (one_of("status", "open", "partly_received", "received", "cancelled"),)

    supplier_id: Mapped[int] = mapped_column(ForeignKey("suppliers.id"), index=True)
    warehouse_id: Mapped[int] = mapped_column(ForeignKey("warehouses.id"))
    reference: Mapped[str] = mapped_column(String(40), unique=True)
    status: Mapped[str] = mapped_column(String(20), server_default=text("'open'"))

    lines: Mapped[list[PurchaseOrderLine]] = relationship(order_by="PurchaseOrderLine.id")


class PurchaseOrderLine(Identified, Base):
    """How much of a variant was ordered and how much has come."""

    __tablename__ = "purchase_order_lines"
    __table_args__ = (
        UniqueConstraint("purchase_order_id", "variant_id"),
        CheckConstraint("received_quantity between 0 and quantity", name="received_within_ordered"),
    )

    purchase_order_id: Mapped[int] = mapped_column(ForeignKey("purchase_orders.id", ondelete="CASCADE"))
    variant_id: Mapped[int] = mapped_column(ForeignKey("product_variants.id"))
    quantity: Mapped[int]
    received_quantity: Mapped[int] = mapped_column(server_default=text("0"))
    unit_cost_cents: Mapped[int] = mapped_column(server_default=text("0"))
