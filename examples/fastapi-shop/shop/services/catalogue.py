"""The storefront's questions about products, and what the back office does to them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Select, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from shop.errors import Conflict, Invalid, NotFound
from shop.models import Category, Price, PriceList, Product, ProductTag, ProductVariant, Tag
from shop.services.audit import record


def category_and_below(slug: str) -> Select[int]:
    """The ids of a category and everything under it."""
    tree = select(Category.id).where(Category.slug == slug).cte("tree", recursive=True)
    child = aliased(Category)
    tree = tree.union_all(select(child.id).join(tree, child.parent_id == tree.c.id))
    return select(tree.c.id)


@dataclass(frozen=True)
class ProductSearch:
    """What a visitor looks for; `None` means: any."""

    words: str | None = None
    category: str | None = None
    tag: str | None = None
    below_cents: int | None = None


async def search(session: AsyncSession, wanted: ProductSearch) -> list[Product]:
    """Published products that match, by name."""
    query = select(Product).where(Product.status == "published")
    if wanted.words:
        document = func.to_tsvector(text("'simple'"), Product.name + " " + Product.description)
        query = query.where(
            or_(
                document.op("@@")(func.plainto_tsquery(text("'simple'"), wanted.words)),
                Product.name.icontains(wanted.words, autoescape=True),
            )
        )
    if wanted.category:
        query = query.where(Product.category_id.in_(category_and_below(wanted.category)))
    if wanted.tag:
        query = query.where(
            Product.id.in_(
                select(ProductTag.product_id).join(Tag, Tag.id == ProductTag.tag_id).where(Tag.name == wanted.tag)
            )
        )
    if wanted.below_cents is not None:
        cheap = (
            select(ProductVariant.product_id)
            .join(Price, Price.variant_id == ProductVariant.id)
            .where(Price.amount_cents < wanted.below_cents)
        )
        query = query.where(Product.id.in_(cheap))
    return list(await session.scalars(query.order_by(Product.name, Product.id)))


async def publish(session: AsyncSession, product_id: int, actor: str) -> Product:
    """Show a product: it must have an active variant with a price."""
    product = await _product(session, product_id)
    sellable = await session.scalar(
        select(func.count())
        .select_from(ProductVariant)
        .join(Price, Price.variant_id == ProductVariant.id)
        .where(ProductVariant.product_id == product_id, ProductVariant.is_active)
    )
    if not sellable:
        raise Conflict(f"product {product_id} has no active variant with a price")
    product.status = "published"
    record(session, actor, "publish", "product", product_id)
    await session.commit()
    return product


async def archive(session: AsyncSession, product_id: int, actor: str) -> Product:
    """Take a product out of the shop; orders keep it."""
    product = await _product(session, product_id)
    product.status = "archived"
    record(session, actor, "archive", "product", product_id)
    await session.commit()
    return product


async def _product(session: AsyncSession, product_id: int) -> Product:
    product = await session.get(Product, product_id, with_for_update=True)
    if product is None:
        raise NotFound(f"no product {product_id}")
    return product


async def tree(session: AsyncSession) -> list[dict[str, object]]:
    """All categories with their depth and path, in reading order."""
    rows = await session.execute(
        text(
            """
            with recursive tree as (
                select id, slug, 0 as depth, slug::text as path, array[position, id::int] as reading_order
                from categories where parent_id is null
                union all
                select c.id, c.slug, depth + 1, path || '/' || c.slug, reading_order || array[c.position, c.id::int]
                from categories c join tree on c.parent_id = tree.id
            )
            select id, slug, depth, path from tree order by reading_order
            """
        )
    )
    return [dict(row) for row in rows.mappings()]


async def move_category(session: AsyncSession, category_id: int, parent_id: int | None) -> Category:
    """Hang a category under another; never under itself or what is below it."""
    category = await session.get(Category, category_id, with_for_update=True)
    if category is None:
        raise NotFound(f"no category {category_id}")
    if parent_id is not None:
        below = set(await session.scalars(category_and_below(category.slug)))
        if parent_id in below:
            raise Invalid(f"category {parent_id} is below category {category_id}")
    category.parent_id = parent_id
    await session.commit()
    return category


async def change_prices(session: AsyncSession, price_list_id: int, percent: int, actor: str) -> int:
    """Raise or lower all prices of a list by a percentage, rounded half up; how many were changed."""
    if percent <= -100:
        raise Invalid("prices cannot fall by 100 per cent or more")
    if await session.get(PriceList, price_list_id) is None:
        raise NotFound(f"no price list {price_list_id}")
    changed = await session.scalars(
        update(Price)
        .where(Price.price_list_id == price_list_id)
        .values(amount_cents=(Price.amount_cents * (100 + percent) + 50) // 100)
        .returning(Price.id)
    )
    count = len(list(changed))
    record(session, actor, "change_prices", "price_list", price_list_id, percent=percent, count=count)
    await session.commit()
    return count


async def unit_price_cents(session: AsyncSession, variant_id: int, currency_code: str, quantity: int) -> int:
    """What one piece costs when so many are bought: the default list of the currency, the highest step reached."""
    amount = await session.scalar(
        select(Price.amount_cents)
        .join(PriceList, PriceList.id == Price.price_list_id)
        .where(
            Price.variant_id == variant_id,
            PriceList.currency_code == currency_code,
            PriceList.is_default,
            Price.minimum_quantity <= quantity,
        )
        .order_by(Price.minimum_quantity.desc())
        .limit(1)
    )
    if amount is None:
        raise Conflict(f"variant {variant_id} has no price in {currency_code}")
    return amount
