"""Routers of the way from the shelf to the door: storefront, carts, orders, payments, shipping, coupons."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from shop import models
from shop.database import RequestSession
from shop.errors import NotFound
from shop.schemas import RowSchema, read_schema
from shop.services import catalogue, inventory, orders, payments, promotions, shipping

storefront = APIRouter(prefix="/products", tags=["storefront"])
categories = APIRouter(prefix="/categories", tags=["categories"])
pricing = APIRouter(prefix="/pricing", tags=["pricing"])
carts = APIRouter(prefix="/carts", tags=["carts"])
order_desk = APIRouter(prefix="/orders", tags=["orders"])
payment_desk = APIRouter(prefix="/payments", tags=["payments"])
shipping_desk = APIRouter(prefix="/shipping", tags=["shipping"])
coupons = APIRouter(prefix="/coupons", tags=["coupons"])

ProductRead = read_schema(models.Product)
PaymentRead = read_schema(models.Payment)
RefundRead = read_schema(models.Refund)
ShipmentRead = read_schema(models.Shipment)
TrackingRead = read_schema(models.TrackingEvent)
MethodRead = read_schema(models.ShippingMethod)


class CartLineRead(RowSchema):
    """A line of a cart."""

    variant_id: int
    quantity: int


class CartRead(RowSchema):
    """A cart with its lines."""

    id: int
    customer_id: int
    currency_code: str
    coupon_id: int | None
    status: str
    lines: list[CartLineRead]


class OrderLineRead(RowSchema):
    """A line of an order."""

    variant_id: int
    description: str
    quantity: int
    unit_price_cents: int
    tax_basis_points: int


class OrderRead(RowSchema):
    """An order with its lines."""

    id: int
    number: str
    customer_id: int
    currency_code: str
    status: str
    subtotal_cents: int
    discount_cents: int
    shipping_cents: int
    tax_cents: int
    total_cents: int
    lines: list[OrderLineRead]


class Actor(BaseModel):
    """Who does it, for the audit trail."""

    actor: str = Field(min_length=1, max_length=120)


@storefront.get("", response_model=list[ProductRead])  # type: ignore[valid-type]  # made from the model at run time
async def search_products(
    session: RequestSession,
    words: str | None = None,
    category: str | None = None,
    tag: str | None = None,
    below_cents: int | None = None,
) -> list[models.Product]:
    return await catalogue.search(session, catalogue.ProductSearch(words, category, tag, below_cents))


@storefront.get("/{product_id}/availability")
async def product_availability(product_id: int, session: RequestSession) -> dict[str, int]:
    product = await session.get(models.Product, product_id)
    if product is None:
        raise NotFound(f"no product {product_id}")
    variants: list[models.ProductVariant] = await product.awaitable_attrs.variants
    return {variant.sku: await inventory.availability(session, variant.id) for variant in variants}


@storefront.post("/{product_id}/publish", response_model=ProductRead)
async def publish_product(product_id: int, body: Actor, session: RequestSession) -> models.Product:
    return await catalogue.publish(session, product_id, body.actor)


@storefront.post("/{product_id}/archive", response_model=ProductRead)
async def archive_product(product_id: int, body: Actor, session: RequestSession) -> models.Product:
    return await catalogue.archive(session, product_id, body.actor)


class MoveCategory(BaseModel):
    """Where to hang a category; null makes it a root."""

    parent_id: int | None


@categories.get("/tree")
async def category_tree(session: RequestSession) -> list[dict[str, Any]]:
    return await catalogue.tree(session)


@categories.post("/{category_id}/move")
async def move_category(category_id: int, body: MoveCategory, session: RequestSession) -> dict[str, int | None]:
    category = await catalogue.move_category(session, category_id, body.parent_id)
    return {"id": category.id, "parent_id": category.parent_id}


class ChangePrices(Actor):
    """By how many per cent all prices of a list change."""

    percent: int


@pricing.post("/lists/{price_list_id}/change")
async def change_prices(price_list_id: int, body: ChangePrices, session: RequestSession) -> dict[str, int]:
    return {"changed": await catalogue.change_prices(session, price_list_id, body.percent, body.actor)}


@pricing.get("/quote")
async def quote_price(
    session: RequestSession, variant_id: int, currency: str, quantity: Annotated[int, Query(ge=1)] = 1
) -> dict[str, int]:
    unit = await catalogue.unit_price_cents(session, variant_id, currency, quantity)
    return {"unit_price_cents": unit, "total_cents": unit * quantity}


class StartCart(BaseModel):
    """Whose cart, in which currency."""

    customer_id: int
    currency_code: str = "EUR"


class SetLine(BaseModel):
    """How many pieces of a variant; nought takes it out."""

    quantity: int


class ApplyCoupon(BaseModel):
    """A coupon by its code."""

    code: str


class PlaceOrder(BaseModel):
    """Where the order goes, and how."""

    address_id: int
    shipping_method_id: int


@carts.post("", status_code=201)
async def start_cart(body: StartCart, session: RequestSession) -> dict[str, int]:
    return {"id": (await orders.start_cart(session, body.customer_id, body.currency_code)).id}


@carts.get("/{cart_id}")
async def read_cart(cart_id: int, session: RequestSession) -> dict[str, Any]:
    cart = await orders.open_cart(session, cart_id)
    lines = await orders.priced_lines(session, cart)
    totals = await orders.totals(session, cart, lines)
    return {
        "cart": CartRead.model_validate(cart),
        "subtotal_cents": totals.subtotal_cents,
        "discount_cents": totals.discount_cents,
        "is_shipping_free": totals.is_shipping_free,
    }


@carts.put("/{cart_id}/lines/{variant_id}", response_model=CartRead)
async def set_cart_line(cart_id: int, variant_id: int, body: SetLine, session: RequestSession) -> models.Cart:
    return await orders.set_line(session, cart_id, variant_id, body.quantity)


@carts.post("/{cart_id}/coupon", response_model=CartRead)
async def apply_coupon(cart_id: int, body: ApplyCoupon, session: RequestSession) -> models.Cart:
    return await orders.apply_coupon(session, cart_id, body.code)


@carts.post("/{cart_id}/order", status_code=201, response_model=OrderRead)
async def place_order(cart_id: int, body: PlaceOrder, session: RequestSession) -> models.Order:
    return await orders.place_order(session, cart_id, body.address_id, body.shipping_method_id)


class Cancel(BaseModel):
    """Why an order is cancelled."""

    reason: str = ""


class Authorise(BaseModel):
    """Money promised for an order."""

    method: Literal["card", "transfer"] = "card"
    amount_cents: int
    idempotency_key: str = Field(min_length=1, max_length=80)


class Redeem(BaseModel):
    """A gift card by its code."""

    code: str


class Ship(BaseModel):
    """The carrier's code for the parcel."""

    tracking_code: str = Field(min_length=1, max_length=60)


@order_desk.get("/{order_id}", response_model=OrderRead)
async def read_order(order_id: int, session: RequestSession) -> models.Order:
    return await orders.order_with_lines(session, order_id)


@order_desk.post("/{order_id}/cancel", response_model=OrderRead)
async def cancel_order(order_id: int, body: Cancel, session: RequestSession) -> models.Order:
    return await orders.cancel(session, order_id, body.reason)


@order_desk.post("/{order_id}/payments", status_code=201, response_model=PaymentRead)
async def authorise_payment(order_id: int, body: Authorise, session: RequestSession) -> models.Payment:
    return await payments.authorise(session, order_id, body.method, body.amount_cents, body.idempotency_key)


@order_desk.post("/{order_id}/gift-card", status_code=201, response_model=PaymentRead)
async def redeem_gift_card(order_id: int, body: Redeem, session: RequestSession) -> models.Payment:
    return await payments.redeem_gift_card(session, order_id, body.code)


@order_desk.post("/{order_id}/ship", status_code=201, response_model=ShipmentRead)
async def ship_order(order_id: int, body: Ship, session: RequestSession) -> models.Shipment:
    return await shipping.ship(session, order_id, body.tracking_code)


class RefundPayment(Actor):
    """How much to give back, and why."""

    amount_cents: int
    reason: str = ""


@payment_desk.post("/{payment_id}/capture", response_model=PaymentRead)
async def capture_payment(payment_id: int, session: RequestSession) -> models.Payment:
    return await payments.capture(session, payment_id)


@payment_desk.post("/{payment_id}/refund", status_code=201, response_model=RefundRead)
async def refund_payment(payment_id: int, body: RefundPayment, session: RequestSession) -> models.Refund:
    return await payments.refund(session, payment_id, body.amount_cents, body.reason, body.actor)


@payment_desk.post("/numbers")
async def draw_numbers(session: RequestSession) -> dict[str, int]:
    return await payments.next_numbers(session)


class Track(BaseModel):
    """What the carrier reports."""

    status: Literal["in_transit", "delivered", "lost"]
    location: str = ""


@shipping_desk.get("/quotes", response_model=list[MethodRead])  # type: ignore[valid-type]  # as above
async def shipping_quotes(
    session: RequestSession, weight_grams: Annotated[int, Query(ge=0)]
) -> list[models.ShippingMethod]:
    return await shipping.quotes(session, weight_grams)


@shipping_desk.post("/parcels/{tracking_code}", response_model=ShipmentRead)
async def track_parcel(tracking_code: str, body: Track, session: RequestSession) -> models.Shipment:
    return await shipping.track(session, tracking_code, body.status, body.location)


@shipping_desk.get("/parcels/{tracking_code}", response_model=list[TrackingRead])  # type: ignore[valid-type]  # as above
async def parcel_history(tracking_code: str, session: RequestSession) -> list[models.TrackingEvent]:
    return await shipping.history(session, tracking_code)


@coupons.get("/{code}/check")
async def check_coupon(code: str, customer_id: int, subtotal_cents: int, session: RequestSession) -> dict[str, Any]:
    coupon = await promotions.usable_coupon(session, code, customer_id)
    brought = promotions.reduction(coupon.promotion, subtotal_cents)
    return {"discount_cents": brought.discount_cents, "is_shipping_free": brought.is_shipping_free}


ROUTERS = [storefront, categories, pricing, carts, order_desk, payment_desk, shipping_desk, coupons]
