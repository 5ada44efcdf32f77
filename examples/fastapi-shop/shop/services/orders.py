"""Carts, their sums, and the orders they become."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from shop.errors import Conflict, Invalid, NotFound
from shop.models import (
    Address,
    Cart,
    CartLine,
    Coupon,
    CouponRedemption,
    Customer,
    CustomerGroup,
    Order,
    OrderLine,
    Payment,
    Product,
    ProductVariant,
    ShippingMethod,
    TaxRate,
)
from shop.services import catalogue, inventory, promotions
from shop.services.jobs import enqueue


@dataclass(frozen=True)
class PricedLine:
    """A cart line with what it costs today."""

    variant_id: int
    description: str
    quantity: int
    unit_price_cents: int
    weight_grams: int
    tax_category: str

    @property
    def total_cents(self) -> int:
        """Quantity times price."""
        return self.quantity * self.unit_price_cents


@dataclass(frozen=True)
class Totals:
    """What a cart costs today, before tax and shipping."""

    subtotal_cents: int
    discount_cents: int
    is_shipping_free: bool


async def open_cart(session: AsyncSession, cart_id: int) -> Cart:
    """The cart with its lines, locked; refused when it was ordered already."""
    cart = await session.get(Cart, cart_id, with_for_update=True, options=[selectinload(Cart.lines)])
    if cart is None:
        raise NotFound(f"no cart {cart_id}")
    if cart.status != "open":
        raise Conflict(f"cart {cart_id} is {cart.status}")
    return cart


async def start_cart(session: AsyncSession, customer_id: int, currency_code: str) -> Cart:
    """A new cart for an active customer."""
    customer = await session.get(Customer, customer_id)
    if customer is None or not customer.is_active:
        raise NotFound(f"no active customer {customer_id}")
    cart = Cart(customer_id=customer_id, currency_code=currency_code)
    session.add(cart)
    await session.commit()
    return cart


async def set_line(session: AsyncSession, cart_id: int, variant_id: int, quantity: int) -> Cart:
    """Put so many pieces of a variant into the cart; nought takes it out."""
    cart = await open_cart(session, cart_id)
    variant = await session.get(ProductVariant, variant_id, options=[selectinload(ProductVariant.product)])
    if variant is None:
        raise NotFound(f"no variant {variant_id}")
    if quantity < 0:
        raise Invalid("a quantity is not negative")
    if quantity and (not variant.is_active or variant.product.status != "published"):
        raise Conflict(f"variant {variant.sku} is not for sale")
    line = next((line for line in cart.lines if line.variant_id == variant_id), None)
    if quantity == 0:
        if line is not None:
            cart.lines.remove(line)
    elif line is None:
        cart.lines.append(CartLine(variant_id=variant_id, quantity=quantity))
    else:
        line.quantity = quantity
    await session.commit()
    return cart


async def apply_coupon(session: AsyncSession, cart_id: int, code: str) -> Cart:
    """Put a coupon on the cart; what it brings is worked out again when the order is placed."""
    cart = await open_cart(session, cart_id)
    coupon = await promotions.usable_coupon(session, code, cart.customer_id)
    cart.coupon_id = coupon.id
    await session.commit()
    return cart


async def priced_lines(session: AsyncSession, cart: Cart) -> list[PricedLine]:
    """The lines of a cart with today's prices."""
    priced = []
    for line in cart.lines:
        row = await session.execute(
            select(ProductVariant, Product)
            .join(Product, Product.id == ProductVariant.product_id)
            .where(ProductVariant.id == line.variant_id)
        )
        variant, product = row.one()
        price = await catalogue.unit_price_cents(session, line.variant_id, cart.currency_code, line.quantity)
        priced.append(
            PricedLine(
                line.variant_id,
                f"{product.name}, {variant.name}",
                line.quantity,
                price,
                variant.weight_grams,
                product.tax_category,
            )
        )
    return priced


async def totals(session: AsyncSession, cart: Cart, lines: list[PricedLine]) -> Totals:
    """Group discount first, then the coupon on what is left."""
    subtotal = sum(line.total_cents for line in lines)
    basis_points = await session.scalar(
        select(CustomerGroup.discount_basis_points)
        .join(Customer, Customer.group_id == CustomerGroup.id)
        .where(Customer.id == cart.customer_id)
    )
    discount = subtotal * (basis_points or 0) // 10000
    is_shipping_free = False
    if cart.coupon_id is not None:
        coupon = await session.get_one(Coupon, cart.coupon_id, options=[selectinload(Coupon.promotion)])
        if subtotal >= coupon.promotion.minimum_cents:
            brought = promotions.reduction(coupon.promotion, subtotal - discount)
            discount += brought.discount_cents
            is_shipping_free = brought.is_shipping_free
    return Totals(subtotal, discount, is_shipping_free)


async def tax_basis_points(session: AsyncSession, country_code: str, category: str) -> int:
    """The rate of a country; a category without a rate there is taxed at the standard rate."""
    if category == "zero":
        return 0
    rates = await session.execute(
        select(TaxRate.category, TaxRate.rate_basis_points).where(TaxRate.country_code == country_code)
    )
    by_category = dict(rates.all())
    rate = by_category.get(category, by_category.get("standard"))
    if rate is None:
        raise Conflict(f"no tax rate is known for {country_code}")
    return rate


async def place_order(session: AsyncSession, cart_id: int, address_id: int, shipping_method_id: int) -> Order:
    """Turn a cart into an order: prices, tax and stock are settled in one transaction, or nothing is."""
    cart = await open_cart(session, cart_id)
    if not cart.lines:
        raise Conflict(f"cart {cart_id} is empty")
    address = await session.get(Address, address_id)
    if address is None or address.customer_id != cart.customer_id:
        raise NotFound(f"customer {cart.customer_id} has no address {address_id}")
    lines = await priced_lines(session, cart)
    method = await session.get(ShippingMethod, shipping_method_id)
    if method is None or not method.is_active:
        raise NotFound(f"no active shipping method {shipping_method_id}")
    weight = sum(line.weight_grams * line.quantity for line in lines)
    if weight > method.maximum_weight_grams:
        raise Conflict(f"{weight} g are too heavy for {method.name}: at most {method.maximum_weight_grams} g")
    sums = await totals(session, cart, lines)
    coupon = None
    if cart.coupon_id is not None:
        code = (await session.get_one(Coupon, cart.coupon_id)).code
        coupon = await promotions.usable_coupon(session, code, cart.customer_id)
    shipping_cents = 0 if sums.is_shipping_free else method.price_cents
    rates = {
        category: await tax_basis_points(session, address.country_code, category)
        for category in {line.tax_category for line in lines}
    }
    tax_cents = _tax_cents(lines, rates, sums)
    order = Order(
        customer_id=cart.customer_id,
        cart_id=cart.id,
        address_id=address.id,
        shipping_method_id=method.id,
        currency_code=cart.currency_code,
        subtotal_cents=sums.subtotal_cents,
        discount_cents=sums.discount_cents,
        shipping_cents=shipping_cents,
        tax_cents=tax_cents,
        total_cents=sums.subtotal_cents - sums.discount_cents + shipping_cents + tax_cents,
        lines=[
            OrderLine(
                variant_id=line.variant_id,
                description=line.description,
                quantity=line.quantity,
                unit_price_cents=line.unit_price_cents,
                tax_basis_points=rates[line.tax_category],
            )
            for line in lines
        ],
    )
    session.add(order)
    await session.flush()
    for line in sorted(lines, key=lambda line: line.variant_id):
        await inventory.reserve(session, line.variant_id, line.quantity, order.id)
    if coupon is not None:
        coupon.used_count += 1
        session.add(
            CouponRedemption(
                coupon_id=coupon.id,
                customer_id=cart.customer_id,
                order_id=order.id,
                discount_cents=sums.discount_cents,
            )
        )
    cart.status = "ordered"
    enqueue(session, "order.confirmation", order_id=order.id)
    enqueue(session, "webhook", event="order.placed", order_id=order.id)
    await session.commit()
    return await order_with_lines(session, order.id)


def _tax_cents(lines: list[PricedLine], rates: dict[str, int], sums: Totals) -> int:
    """Tax on goods after the discount, which is spread over the lines by value; rounded half up once, at the end."""
    if sums.subtotal_cents == 0:
        return 0
    taxed = sum(line.total_cents * rates[line.tax_category] for line in lines)
    left = sums.subtotal_cents - sums.discount_cents
    divisor = 10000 * sums.subtotal_cents
    return (taxed * left + divisor // 2) // divisor


async def order_with_lines(session: AsyncSession, order_id: int) -> Order:
    """The order as it stands in the database now."""
    order = await session.get(Order, order_id, options=[selectinload(Order.lines)], populate_existing=True)
    if order is None:
        raise NotFound(f"no order {order_id}")
    return order


async def locked_order(session: AsyncSession, order_id: int) -> Order:
    """The order, locked until the transaction ends."""
    order = await session.get(Order, order_id, with_for_update=True)
    if order is None:
        raise NotFound(f"no order {order_id}")
    return order


async def cancel(session: AsyncSession, order_id: int, reason: str) -> Order:
    """Cancel what has not been paid yet; its stock is free again."""
    order = await locked_order(session, order_id)
    if order.status != "placed":
        raise Conflict(f"order {order.number} is {order.status}; only a placed one is cancelled")
    authorised = await session.scalars(
        select(Payment).where(Payment.order_id == order_id, Payment.status == "authorised").with_for_update()
    )
    for payment in authorised:
        payment.status = "failed"
    await inventory.settle(session, order_id, shipped=False)
    order.status = "cancelled"
    enqueue(session, "webhook", event="order.cancelled", order_id=order.id, reason=reason)
    await session.commit()
    return await order_with_lines(session, order_id)
