"""Parcels: carriers, methods, shipments and where they are."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, String, text
from sqlalchemy.orm import Mapped, mapped_column

from shop.models.base import Base, Created, Identified, Updated, one_of


class Carrier(Identified, Base):
    """Who carries parcels."""

    __tablename__ = "carriers"

    code: Mapped[str] = mapped_column(String(20), unique=True)
    name: Mapped[str] = mapped_column(String(120))


class ShippingMethod(Identified, Base):
    """A service of a carrier with its price and its limit."""

    __tablename__ = "shipping_methods"
    __table_args__ = (CheckConstraint("price_cents >= 0", name="price_not_negative"),)

    carrier_id: Mapped[int] = mapped_column(ForeignKey("carriers.id"), index=True)
    code: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    price_cents: Mapped[int]
    maximum_weight_grams: Mapped[int] = mapped_column(server_default=text("30000"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))


class Shipment(Identified, Updated, Base):
    """A parcel on its way."""

    __tablename__ = "shipments"
    __table_args__ = (one_of("status", "created", "in_transit", "delivered", "lost"),)

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), unique=True)
    shipping_method_id: Mapped[int] = mapped_column(ForeignKey("shipping_methods.id"))
    tracking_code: Mapped[str] = mapped_column(String(60), unique=True)
    status: Mapped[str] = mapped_column(String(20), server_default=text("'created'"))


class TrackingEvent(Identified, Created, Base):
    """What the carrier says about a parcel."""

    __tablename__ = "tracking_events"

    shipment_id: Mapped[int] = mapped_column(ForeignKey("shipments.id", ondelete="CASCADE"), index=True)
    status: Mapped[str] = mapped_column(String(20))
    location: Mapped[str] = mapped_column(String(120), server_default=text("''"))
