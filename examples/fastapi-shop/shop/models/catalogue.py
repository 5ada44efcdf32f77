"""What the shop sells: brands, categories, products with variants, tags, prices."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.models.base import Base, Created, Identified, Updated, one_of


class Brand(Identified, Created, Base):
    """Who makes a product."""

    __tablename__ = "brands"

    name: Mapped[str] = mapped_column(String(120), unique=True)
    slug: Mapped[str] = mapped_column(String(120), unique=True)


class Category(Identified, Created, Base):
    """A node of the category tree."""

    __tablename__ = "categories"
    __table_args__ = (CheckConstraint("parent_id <> id", name="not_its_own_parent"),)

    parent_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"), index=True)
    name: Mapped[str] = mapped_column(String(120))
    slug: Mapped[str] = mapped_column(String(120), unique=True)
    position: Mapped[int] = mapped_column(server_default=text("0"))


class Product(Identified, Updated, Base):
    """Something with a page in the shop; what is bought is one of its variants."""

    __tablename__ = "products"
    __table_args__ = (
        one_of("status", "draft", "published", "archived"),
        one_of("tax_category", "standard", "reduced", "zero"),
        Index("ix_products_attributes", "attributes", postgresql_using="gin"),
        Index(
            "ix_products_search",
            text("to_tsvector('simple'::regconfig, (name::text || ' '::text) || description)"),
            postgresql_using="gin",
        ),
    )

    brand_id: Mapped[int | None] = mapped_column(ForeignKey("brands.id"), index=True)
    category_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    slug: Mapped[str] = mapped_column(String(200), unique=True)
    description: Mapped[str] = mapped_column(server_default=text("''"))
    status: Mapped[str] = mapped_column(String(20), server_default=text("'draft'"))
    tax_category: Mapped[str] = mapped_column(String(20), server_default=text("'standard'"))
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))

    variants: Mapped[list[ProductVariant]] = relationship(back_populates="product", order_by="ProductVariant.id")


class ProductVariant(Identified, Created, Base):
    """What is counted, priced and shipped."""

    __tablename__ = "product_variants"
    __table_args__ = (CheckConstraint("weight_grams >= 0", name="weight_not_negative"),)

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"), index=True)
    sku: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    weight_grams: Mapped[int] = mapped_column(server_default=text("0"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))

    product: Mapped[Product] = relationship(back_populates="variants")


class ProductImage(Identified, Base):
    """A picture of a product; the positions of one product differ."""

    __tablename__ = "product_images"
    __table_args__ = (UniqueConstraint("product_id", "position"),)

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(String(500))
    position: Mapped[int] = mapped_column(server_default=text("0"))


class Tag(Identified, Base):
    """A word that products are found by."""

    __tablename__ = "tags"

    name: Mapped[str] = mapped_column(String(60), unique=True)


class ProductTag(Identified, Base):
    """A tag on a product."""

    __tablename__ = "product_tags"
    __table_args__ = (UniqueConstraint("product_id", "tag_id"),)

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"))
    tag_id: Mapped[int] = mapped_column(ForeignKey("tags.id", ondelete="CASCADE"))


class PriceList(Identified, Created, Base):
    """Prices in one currency for one kind of customer."""

    __tablename__ = "price_lists"

    code: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    currency_code: Mapped[str] = mapped_column(ForeignKey("currencies.code"))
    is_default: Mapped[bool] = mapped_column(server_default=text("false"))


class Price(Identified, Base):
    """What a variant costs from a quantity on."""

    __tablename__ = "prices"
    __table_args__ = (
        UniqueConstraint("price_list_id", "variant_id", "minimum_quantity"),
        CheckConstraint("amount_cents >= 0", name="amount_not_negative"),
        CheckConstraint("minimum_quantity >= 1", name="minimum_at_least_one"),
    )

    price_list_id: Mapped[int] = mapped_column(ForeignKey("price_lists.id", ondelete="CASCADE"))
    variant_id: Mapped[int] = mapped_column(ForeignKey("product_variants.id", ondelete="CASCADE"), index=True)
    minimum_quantity: Mapped[int] = mapped_column(server_default=text("1"))
    amount_cents: Mapped[int]
