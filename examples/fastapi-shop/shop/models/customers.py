"""Who buys: customers, their groups, addresses, wishes and loyalty points."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shop.models.base import Base, Created, Identified, Updated


class CustomerGroup(Identified, Base):
    """Customers with a discount in common."""

    __tablename__ = "customer_groups"
    __table_args__ = (CheckConstraint("discount_basis_points between 0 and 10000", name="discount_in_range"),)

    code: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    discount_basis_points: Mapped[int] = mapped_column(server_default=text("0"))


class Customer(Identified, Updated, Base):
    """A person with an account."""

    __tablename__ = "customers"
    __table_args__ = (Index("uq_customers_email_lower", text("lower(email)"), unique=True),)

    group_id: Mapped[int | None] = mapped_column(ForeignKey("customer_groups.id"), index=True)
    email: Mapped[str] = mapped_column(String(200))
    full_name: Mapped[str] = mapped_column(String(200))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    anonymised_at: Mapped[datetime | None]


class Address(Identified, Created, Base):
    """Where a customer's parcels go; at most one is the default."""

    __tablename__ = "addresses"
    __table_args__ = (
        Index("uq_addresses_one_default", "customer_id", unique=True, postgresql_where=text("is_default")),
    )

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), index=True)
    label: Mapped[str] = mapped_column(String(60), server_default=text("'home'"))
    street: Mapped[str] = mapped_column(String(200))
    city: Mapped[str] = mapped_column(String(120))
    postcode: Mapped[str] = mapped_column(String(20))
    country_code: Mapped[str] = mapped_column(ForeignKey("countries.code"))
    is_default: Mapped[bool] = mapped_column(server_default=text("false"))


class LoyaltyEntry(Identified, Created, Base):
    """Points won or spent; the balance is their sum."""

    __tablename__ = "loyalty_entries"
    __table_args__ = (CheckConstraint("points <> 0", name="points_not_zero"),)

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), index=True)
    points: Mapped[int]
    reason: Mapped[str] = mapped_column(String(120))


class WishlistItem(Identified, Created, Base):
    """A variant that a customer would like to have."""

    __tablename__ = "wishlist_items"
    __table_args__ = (UniqueConstraint("customer_id", "variant_id"),)

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"))
    variant_id: Mapped[int] = mapped_column(ForeignKey("product_variants.id", ondelete="CASCADE"))
