"""Makes what tests need through the API: customers, products with stock, orders in any state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

Json = dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """A status that is no success, and the sentence that came with it."""

    status: int
    detail: str


class ShopWorld:
    """One client, and a counter that keeps unique columns unique within a test."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self._count = 0
        self._price_lists: dict[str, int] = {}
        self._warehouses: dict[str, int] = {}

    def unique(self, word: str) -> str:
        """`word-1`, `word-2`, …"""
        self._count += 1
        return f"{word}-{self._count}"

    async def send(self, method: str, path: str, body: Json | None = None) -> Any:
        """The JSON of an answer that must be a success."""
        response = await self.client.request(method, path, json=body)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def post(self, path: str, **body: Any) -> Any:
        """POST that must succeed."""
        return await self.send("POST", path, body)

    async def get(self, path: str) -> Any:
        """GET that must succeed."""
        return await self.send("GET", path)

    async def refused(self, method: str, path: str, **body: Any) -> Refusal:
        """The refusal of a request that must not succeed."""
        response = await self.client.request(method, path, json=body or None)
        assert response.is_client_error, f"{method} {path}: {response.status_code} {response.text}"
        return Refusal(response.status_code, str(response.json()["detail"]))

    async def customer(self, **more: Any) -> int:
        """A customer, without the welcome that registering brings."""
        body = {"email": f"{self.unique('customer')}@shop.example", "full_name": "Ada Example"} | more
        return int((await self.post("/admin/customers", **body))["id"])

    async def address(self, customer_id: int, country: str = "DE") -> int:
        """An address of that customer."""
        body = {"street": "1 Market Street", "city": "Town", "postcode": "12345", "country_code": country}
        return int((await self.post("/admin/addresses", customer_id=customer_id, **body))["id"])

    async def product(self, **more: Any) -> int:
        """A draft without variants."""
        slug = self.unique("product")
        return int((await self.post("/admin/products", **({"name": slug.title(), "slug": slug} | more)))["id"])

    async def variant(self, product_id: int | None = None, **more: Any) -> int:
        """A variant without price and stock."""
        if product_id is None:
            product_id = await self.product()
        body = {"product_id": product_id, "sku": self.unique("SKU"), "name": "plain"} | more
        return int((await self.post("/admin/variants", **body))["id"])

    async def price_list(self, currency: str = "EUR") -> int:
        """The default price list of a currency."""
        if currency not in self._price_lists:
            row = await self.post(
                "/admin/price-lists", code=f"default-{currency}", name=currency, currency_code=currency, is_default=True
            )
            self._price_lists[currency] = row["id"]
        return self._price_lists[currency]

    async def price(self, variant_id: int, cents: int, *, currency: str = "EUR", minimum_quantity: int = 1) -> int:
        """A price on the default list."""
        row = await self.post(
            "/admin/prices",
            price_list_id=await self.price_list(currency),
            variant_id=variant_id,
            amount_cents=cents,
            minimum_quantity=minimum_quantity,
        )
        return int(row["id"])

    async def warehouse(self, code: str = "MAIN", priority: int = 100) -> int:
        """A warehouse by its code, made when missing."""
        if code not in self._warehouses:
            row = await self.post("/admin/warehouses", code=code, name=code, country_code="DE", priority=priority)
            self._warehouses[code] = row["id"]
        return self._warehouses[code]

    async def stock(self, variant_id: int, quantity: int, warehouse: str = "MAIN") -> Json:
        """Receive goods; the stock item."""
        row: Json = await self.post(
            "/stock/receive", warehouse_id=await self.warehouse(warehouse), variant_id=variant_id, quantity=quantity
        )
        return row

    async def sellable(self, cents: int = 1000, stock: int = 10, *, product: Json | None = None, **variant: Any) -> int:
        """A published product's variant with a price and stock."""
        product_id = await self.product(**(product or {}))
        variant_id = await self.variant(product_id, **variant)
        await self.price(variant_id, cents)
        if stock:
            await self.stock(variant_id, stock)
        await self.post(f"/products/{product_id}/publish", actor="editor")
        return variant_id

    async def shipping_method(self, cents: int = 500, **more: Any) -> int:
        """A shipping method of a new carrier."""
        carrier = await self.post("/admin/carriers", code=self.unique("carrier"), name="Carrier")
        body = {"carrier_id": carrier["id"], "code": self.unique("method"), "name": "Parcel", "price_cents": cents}
        return int((await self.post("/admin/shipping-methods", **(body | more)))["id"])

    async def coupon(
        self, kind: str = "percent", value: int = 10, *, promotion: Json | None = None, **more: Any
    ) -> str:
        """A coupon; its code."""
        made = await self.post(
            "/admin/promotions", **({"name": "Sale", "kind": kind, "value": value} | (promotion or {}))
        )
        body = {"promotion_id": made["id"], "code": self.unique("SAVE")} | more
        return str((await self.post("/admin/coupons", **body))["code"])

    async def cart(self, customer_id: int, lines: dict[int, int], currency: str = "EUR") -> int:
        """A cart with so many pieces of each variant."""
        cart = await self.post("/carts", customer_id=customer_id, currency_code=currency)
        for variant_id, quantity in lines.items():
            await self.send("PUT", f"/carts/{cart['id']}/lines/{variant_id}", {"quantity": quantity})
        return int(cart["id"])

    async def order(self, lines: dict[int, int] | None = None, *, customer_id: int | None = None) -> Json:
        """A placed order; by default two pieces at 10.00 each, 5.00 shipping, 19 % tax on the goods: 28.80."""
        if lines is None:
            lines = {await self.sellable(): 2}
        if customer_id is None:
            customer_id = await self.customer()
        cart_id = await self.cart(customer_id, lines)
        order: Json = await self.post(
            f"/carts/{cart_id}/order",
            address_id=await self.address(customer_id),
            shipping_method_id=await self.shipping_method(),
        )
        return order

    async def authorised(self, order: Json, cents: int | None = None, key: str | None = None) -> Json:
        """A payment promised for an order; by default all of it."""
        payment: Json = await self.post(
            f"/orders/{order['id']}/payments",
            amount_cents=order["total_cents"] if cents is None else cents,
            idempotency_key=key or self.unique("key"),
        )
        return payment

    async def paid_order(self, lines: dict[int, int] | None = None, *, customer_id: int | None = None) -> Json:
        """A paid order; its payment is under `payment`."""
        order = await self.order(lines, customer_id=customer_id)
        payment = await self.authorised(order)
        captured = await self.post(f"/payments/{payment['id']}/capture")
        return (await self.order_now(order)) | {"payment": captured}

    async def order_now(self, order: Json) -> Json:
        """The order as it is now."""
        now: Json = await self.get(f"/orders/{order['id']}")
        return now
