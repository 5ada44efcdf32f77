"""For each back-office table: what makes a row, what changes it, and what the database must refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.shop_world import Json, ShopWorld

Needs = Callable[[ShopWorld], Awaitable[Json]]


async def nothing(_world: ShopWorld) -> Json:
    """A row that refers to no other."""
    return {}


async def a_product(world: ShopWorld) -> Json:
    """A row of a product."""
    return {"product_id": await world.product()}


async def a_customer(world: ShopWorld) -> Json:
    """A row of a customer."""
    return {"customer_id": await world.customer()}


async def a_product_and_a_tag(world: ShopWorld) -> Json:
    """A tag on a product."""
    tag = await world.post("/admin/tags", name=world.unique("tag"))
    return {"product_id": await world.product(), "tag_id": tag["id"]}


async def a_price_list_and_a_variant(world: ShopWorld) -> Json:
    """A price."""
    return {"price_list_id": await world.price_list(), "variant_id": await world.variant()}


async def a_warehouse_and_a_variant(world: ShopWorld) -> Json:
    """A stock item."""
    return {"warehouse_id": await world.warehouse(), "variant_id": await world.variant()}


async def a_supplier_and_a_warehouse(world: ShopWorld) -> Json:
    """A purchase order."""
    supplier = await world.post("/admin/suppliers", name=world.unique("supplier"))
    return {"supplier_id": supplier["id"], "warehouse_id": await world.warehouse()}


async def a_purchase_order_and_a_variant(world: ShopWorld) -> Json:
    """A line of a purchase order."""
    body = await a_supplier_and_a_warehouse(world)
    purchase = await world.post("/admin/purchase-orders", **body, reference=world.unique("PO"))
    return {"purchase_order_id": purchase["id"], "variant_id": await world.variant()}


async def a_customer_and_a_variant(world: ShopWorld) -> Json:
    """A wish."""
    return {"customer_id": await world.customer(), "variant_id": await world.variant()}


async def a_carrier(world: ShopWorld) -> Json:
    """A shipping method."""
    return {"carrier_id": (await world.post("/admin/carriers", code=world.unique("c"), name="Carrier"))["id"]}


async def a_promotion(world: ShopWorld) -> Json:
    """A coupon."""
    made = await world.post("/admin/promotions", name="Sale", kind="percent", value=10)
    return {"promotion_id": made["id"]}


async def a_product_and_a_customer(world: ShopWorld) -> Json:
    """A review."""
    return {"product_id": await world.product(), "customer_id": await world.customer()}


@dataclass(frozen=True)
class Sample:
    """`values` with what `needs` makes is a row; `unique` columns get a value of their own for each row."""

    path: str
    table: str
    values: Json
    change: Json
    unique: tuple[str, ...] = ()
    needs: Needs = nothing
    refused: Json = field(default_factory=dict)
    """Values that a constraint of the database refuses, and the SQLSTATE of the refusal."""
    sqlstate: str = "23514"
    key: str = "id"

    async def body(self, world: ShopWorld) -> Json:
        """A request body for one more row."""
        own = {column: world.unique(str(self.values.get(column, column))) for column in self.unique}
        return {**self.values, **own, **await self.needs(world)}


SAMPLES = [
    Sample(
        "/admin/brands", "brands", {}, {"name": "Other"}, ("name", "slug"), refused={"slug": "taken"}, sqlstate="23505"
    ),
    Sample(
        "/admin/categories",
        "categories",
        {"name": "Shoes"},
        {"position": 7},
        ("slug",),
        refused={"parent_id": 999},
        sqlstate="23503",
    ),
    Sample("/admin/products", "products", {"name": "Lamp"}, {"name": "Big lamp"}, ("slug",), refused={"status": "odd"}),
    Sample(
        "/admin/variants",
        "product_variants",
        {"name": "red"},
        {"weight_grams": 250},
        ("sku",),
        a_product,
        refused={"weight_grams": -1},
    ),
    Sample(
        "/admin/images",
        "product_images",
        {"url": "https://shop.example/a.png"},
        {"position": 3},
        (),
        a_product,
        refused={"product_id": 999},
        sqlstate="23503",
    ),
    Sample("/admin/tags", "tags", {}, {"name": "other"}, ("name",), refused={"name": "taken"}, sqlstate="23505"),
    Sample(
        "/admin/product-tags",
        "product_tags",
        {},
        {},
        (),
        a_product_and_a_tag,
        refused={"tag_id": 999},
        sqlstate="23503",
    ),
    Sample(
        "/admin/price-lists",
        "price_lists",
        {"name": "Retail", "currency_code": "EUR"},
        {"currency_code": "GBP"},
        ("code",),
        refused={"currency_code": "XXX"},
        sqlstate="23503",
    ),
    Sample(
        "/admin/prices",
        "prices",
        {"amount_cents": 999},
        {"amount_cents": 1099},
        (),
        a_price_list_and_a_variant,
        refused={"amount_cents": -1},
    ),
    Sample(
        "/admin/warehouses",
        "warehouses",
        {"name": "North", "country_code": "SE"},
        {"priority": 1},
        ("code",),
        refused={"country_code": "XX"},
        sqlstate="23503",
    ),
    Sample(
        "/admin/stock-items",
        "stock_items",
        {"on_hand": 5},
        {"reorder_point": 2},
        (),
        a_warehouse_and_a_variant,
        refused={"reserved": 6},
    ),
    Sample(
        "/admin/suppliers",
        "suppliers",
        {},
        {"email": "a@b.example"},
        ("name",),
        refused={"name": "taken"},
        sqlstate="23505",
    ),
    Sample(
        "/admin/purchase-orders",
        "purchase_orders",
        {},
        {"status": "cancelled"},
        ("reference",),
        a_supplier_and_a_warehouse,
        refused={"status": "lost"},
    ),
    Sample(
        "/admin/purchase-order-lines",
        "purchase_order_lines",
        {"quantity": 4},
        {"unit_cost_cents": 120},
        (),
        a_purchase_order_and_a_variant,
        refused={"received_quantity": 5},
    ),
    Sample(
        "/admin/customer-groups",
        "customer_groups",
        {"name": "Staff"},
        {"discount_basis_points": 500},
        ("code",),
        refused={"discount_basis_points": 10001},
    ),
    Sample(
        "/admin/customers",
        "customers",
        {"full_name": "Ada"},
        {"is_active": False},
        ("email",),
        refused={"email": "TAKEN"},
        sqlstate="23505",
    ),
    Sample(
        "/admin/addresses",
        "addresses",
        {"street": "1 Road", "city": "Town", "postcode": "1", "country_code": "FR"},
        {"label": "office"},
        (),
        a_customer,
        refused={"country_code": "XX"},
        sqlstate="23503",
    ),
    Sample(
        "/admin/wishlist-items",
        "wishlist_items",
        {},
        {},
        (),
        a_customer_and_a_variant,
        refused={"variant_id": 999},
        sqlstate="23503",
    ),
    Sample(
        "/admin/gift-cards",
        "gift_cards",
        {"currency_code": "EUR", "balance_cents": 5000},
        {"balance_cents": 4000},
        ("code",),
        refused={"balance_cents": -1},
    ),
    Sample(
        "/admin/carriers",
        "carriers",
        {"name": "Post"},
        {"name": "Mail"},
        ("code",),
        refused={"code": "taken"},
        sqlstate="23505",
    ),
    Sample(
        "/admin/shipping-methods",
        "shipping_methods",
        {"name": "Parcel", "price_cents": 490},
        {"price_cents": 590},
        ("code",),
        a_carrier,
        refused={"price_cents": -1},
    ),
    Sample(
        "/admin/promotions",
        "promotions",
        {"name": "Sale", "kind": "percent", "value": 10},
        {"value": 15},
        refused={"value": 101},
    ),
    Sample(
        "/admin/coupons",
        "coupons",
        {"maximum_uses": 5},
        {"maximum_uses": 9},
        ("code",),
        a_promotion,
        refused={"used_count": 6},
    ),
    Sample(
        "/admin/reviews",
        "reviews",
        {"rating": 4, "body": "Good."},
        {"rating": 5},
        (),
        a_product_and_a_customer,
        refused={"rating": 6},
    ),
    Sample("/admin/pages", "pages", {"title": "Terms"}, {"title": "New terms"}, ("slug",), refused={"status": "odd"}),
    Sample(
        "/admin/blog-posts",
        "blog_posts",
        {"title": "News", "author": "Ada"},
        {"author": "Grace"},
        ("slug",),
        refused={"slug": "taken"},
        sqlstate="23505",
    ),
    Sample(
        "/admin/support-cases",
        "support_cases",
        {"subject": "Where is it?"},
        {"assignee": "Grace"},
        (),
        a_customer,
        refused={"priority": "urgent"},
    ),
    Sample(
        "/admin/webhooks",
        "webhooks",
        {"event": "order.placed", "url": "https://hook.example"},
        {"is_active": False},
    ),
]
