"""From the shelf to the door: catalogue, carts, orders, coupons, payments, refunds, parcels."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from tests.clean_database import LeasedDatabase
from tests.shop_world import Json, ShopWorld


class TestStorefront:
    async def names(self, world: ShopWorld, query: str) -> list[str]:
        return [product["name"] for product in await world.get(f"/products?{query}")]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("words=lamp", ["Desk lamp", "Lampshade"]),
            ("words=oak", ["Desk lamp"]),
            ("words=100%25", []),
            ("below_cents=2000", ["Lampshade"]),
            ("below_cents=2001", ["Desk lamp", "Lampshade"]),
            ("category=furniture", ["Desk lamp", "Lampshade"]),
            ("category=shades", ["Lampshade"]),
            ("tag=new", ["Desk lamp"]),
            ("tag=new&category=shades", []),
        ],
    )
    async def test_a_search_finds_published_products(self, query: str, found: list[str], world: ShopWorld) -> None:
        furniture = await world.post("/admin/categories", name="Furniture", slug="furniture")
        shades = await world.post("/admin/categories", name="Shades", slug="shades", parent_id=furniture["id"])
        lamp = {"name": "Desk lamp", "description": "made of oak", "category_id": furniture["id"]}
        await world.sellable(2000, 0, product=lamp)
        await world.sellable(900, 0, product={"name": "Lampshade", "category_id": shades["id"]})
        await world.product(name="Draft lamp")
        tag = await world.post("/admin/tags", name="new")
        await world.post("/admin/product-tags", product_id=1, tag_id=tag["id"])
        assert await self.names(world, query) == found

    async def test_a_product_without_a_price_is_not_published(self, world: ShopWorld) -> None:
        product_id = await world.product()
        await world.variant(product_id)
        assert (await world.refused("POST", f"/products/{product_id}/publish", actor="a")).status == 409

    async def test_an_archived_product_is_not_found_and_not_sold(self, world: ShopWorld) -> None:
        variant_id = await world.sellable()
        cart_id = await world.cart(await world.customer(), {})
        await world.post("/products/1/archive", actor="editor")
        assert await self.names(world, "") == []
        refusal = await world.refused("PUT", f"/carts/{cart_id}/lines/{variant_id}", quantity=1)
        assert (refusal.status, "not for sale" in refusal.detail) == (409, True)

    async def test_publishing_is_written_down(self, world: ShopWorld) -> None:
        await world.sellable()
        (entry,) = await world.get("/admin/audit")
        assert (entry["actor"], entry["action"], entry["entity"], entry["entity_id"]) == (
            "editor",
            "publish",
            "product",
            1,
        )

    async def test_availability_is_what_is_not_promised(self, world: ShopWorld) -> None:
        variant_id = await world.sellable(stock=10, sku="LAMP")
        await world.stock(variant_id, 5, "NORTH")
        await world.order({variant_id: 4})
        assert await world.get("/products/1/availability") == {"LAMP": 11}

    async def test_availability_of_nothing_is_not_found(self, world: ShopWorld) -> None:
        assert (await world.refused("GET", "/products/1/availability")).status == 404


class TestCategories:
    async def three(self, world: ShopWorld) -> None:
        for parent_id, slug in ((None, "a"), (1, "b"), (2, "c")):
            await world.post("/admin/categories", name=slug, slug=slug, parent_id=parent_id)

    async def test_the_tree_is_in_reading_order(self, world: ShopWorld) -> None:
        await self.three(world)
        await world.post("/admin/categories", name="first", slug="first", position=-1)
        tree = await world.get("/categories/tree")
        assert [(node["path"], node["depth"]) for node in tree] == [("first", 0), ("a", 0), ("a/b", 1), ("a/b/c", 2)]

    @pytest.mark.parametrize("parent_id", [1, 2, 3])
    async def test_a_category_never_hangs_below_itself(self, parent_id: int, world: ShopWorld) -> None:
        await self.three(world)
        assert (await world.refused("POST", "/categories/1/move", parent_id=parent_id)).status == 422

    @pytest.mark.parametrize(("parent_id", "paths"), [(1, ["a", "a/b", "a/c"]), (None, ["a", "a/b", "c"])])
    async def test_a_category_moves(self, parent_id: int | None, paths: list[str], world: ShopWorld) -> None:
        await self.three(world)
        await world.post("/categories/3/move", parent_id=parent_id)
        assert sorted(node["path"] for node in await world.get("/categories/tree")) == paths


class TestPricing:
    @pytest.mark.parametrize(("quantity", "unit"), [(1, 1000), (9, 1000), (10, 900), (99, 900), (100, 700)])
    async def test_the_highest_step_reached_counts(self, quantity: int, unit: int, world: ShopWorld) -> None:
        variant_id = await world.variant()
        for minimum, cents in ((1, 1000), (10, 900), (100, 700)):
            await world.price(variant_id, cents, minimum_quantity=minimum)
        quote = await world.get(f"/pricing/quote?variant_id={variant_id}&currency=EUR&quantity={quantity}")
        assert quote == {"unit_price_cents": unit, "total_cents": unit * quantity}

    async def test_there_is_no_price_in_another_currency(self, world: ShopWorld) -> None:
        variant_id = await world.sellable()
        refusal = await world.refused("GET", f"/pricing/quote?variant_id={variant_id}&currency=GBP")
        assert (refusal.status, "GBP" in refusal.detail) == (409, True)

    @pytest.mark.parametrize(("percent", "cents"), [(10, 1099), (-10, 899), (0, 999), (-99, 10), (5, 1049)])
    async def test_prices_change_by_a_percentage(self, percent: int, cents: int, world: ShopWorld) -> None:
        variant_id = await world.variant()
        await world.price(variant_id, 999)
        assert await world.post("/pricing/lists/1/change", percent=percent, actor="a") == {"changed": 1}
        assert (await world.get("/admin/prices/1"))["amount_cents"] == cents

    @pytest.mark.parametrize(("price_list", "percent", "status"), [(1, -100, 422), (2, 10, 404)])
    async def test_a_senseless_change_is_refused(
        self, price_list: int, percent: int, status: int, world: ShopWorld
    ) -> None:
        await world.price(await world.variant(), 999)
        path = f"/pricing/lists/{price_list}/change"
        assert (await world.refused("POST", path, percent=percent, actor="a")).status == status


class TestCarts:
    async def test_a_line_is_set_changed_and_taken_out(self, world: ShopWorld) -> None:
        variant_id = await world.sellable(cents=250)
        cart_id = await world.cart(await world.customer(), {variant_id: 2})
        assert (await world.get(f"/carts/{cart_id}"))["subtotal_cents"] == 500
        await world.send("PUT", f"/carts/{cart_id}/lines/{variant_id}", {"quantity": 3})
        assert (await world.get(f"/carts/{cart_id}"))["subtotal_cents"] == 750
        cart = await world.send("PUT", f"/carts/{cart_id}/lines/{variant_id}", {"quantity": 0})
        assert cart["lines"] == []

    @pytest.mark.parametrize(("variant", "quantity", "status"), [(1, -1, 422), (99, 1, 404)])
    async def test_a_senseless_line_is_refused(
        self, variant: int, quantity: int, status: int, world: ShopWorld
    ) -> None:
        await world.sellable()
        cart_id = await world.cart(await world.customer(), {})
        refusal = await world.refused("PUT", f"/carts/{cart_id}/lines/{variant}", quantity=quantity)
        assert refusal.status == status

    async def test_a_group_discount_comes_off_first(self, world: ShopWorld) -> None:
        group = await world.post("/admin/customer-groups", code="staff", name="Staff", discount_basis_points=2000)
        cart_id = await world.cart(await world.customer(group_id=group["id"]), {await world.sellable(1000): 1})
        code = await world.coupon("percent", 10)
        await world.post(f"/carts/{cart_id}/coupon", code=code)
        assert (await world.get(f"/carts/{cart_id}"))["discount_cents"] == 200 + 80

    async def test_nobody_gets_a_cart_without_an_active_account(self, world: ShopWorld) -> None:
        customer_id = await world.customer(is_active=False)
        assert (await world.refused("POST", "/carts", customer_id=customer_id)).status == 404


class TestOrders:
    @pytest.mark.parametrize("attempt", [1, 2, 3])
    async def test_the_first_order_is_s_1000_each_time(self, attempt: int, world: ShopWorld) -> None:
        variant_id = await world.sellable()
        numbers = [(await world.order({variant_id: 1}))["number"] for _ in range(attempt)]
        assert numbers == [f"S-{1000 + index}" for index in range(attempt)]

    async def test_the_sums_of_an_order(self, world: ShopWorld) -> None:
        order = await world.order()
        sums = {name: order[name] for name in order if name.endswith("_cents")}
        assert sums == {
            "subtotal_cents": 2000,
            "discount_cents": 0,
            "shipping_cents": 500,
            "tax_cents": 380,
            "total_cents": 2880,
        }

    @pytest.mark.parametrize(
        ("country", "category", "basis_points"),
        [
            ("DE", "standard", 1900),
            ("DE", "reduced", 700),
            ("DK", "reduced", 2500),
            ("FI", "standard", 2550),
            ("FR", "reduced", 550),
            ("US", "standard", 0),
            ("SE", "zero", 0),
        ],
    )
    async def test_tax_is_that_of_the_country_of_delivery(
        self, country: str, category: str, basis_points: int, world: ShopWorld
    ) -> None:
        variant_id = await world.sellable(10000, product={"tax_category": category})
        customer_id = await world.customer()
        cart_id = await world.cart(customer_id, {variant_id: 1})
        order = await world.post(
            f"/carts/{cart_id}/order",
            address_id=await world.address(customer_id, country),
            shipping_method_id=await world.shipping_method(),
        )
        assert (order["lines"][0]["tax_basis_points"], order["tax_cents"]) == (basis_points, basis_points)

    async def test_stock_is_promised_to_the_order(self, world: ShopWorld, database: LeasedDatabase) -> None:
        await world.order({await world.sellable(stock=10): 4})
        assert database.rows("select on_hand, reserved from stock_items") == [(10, 4)]
        assert database.rows("select order_id, quantity, status from stock_reservations") == [(1, 4, "active")]

    async def test_stock_comes_from_the_first_warehouse_first(self, world: ShopWorld, database: LeasedDatabase) -> None:
        variant_id = await world.sellable(stock=0)
        await world.warehouse("FAR", priority=200)
        await world.warehouse("NEAR", priority=1)
        await world.stock(variant_id, 5, "FAR")
        await world.stock(variant_id, 3, "NEAR")
        await world.order({variant_id: 4})
        rows = database.rows("select code, reserved from stock_items s join warehouses w on w.id = s.warehouse_id")
        assert dict(rows) == {"NEAR": 3, "FAR": 1}

    async def test_an_order_that_cannot_be_filled_leaves_nothing_behind(
        self, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        variant_id, customer_id = await world.sellable(stock=3), await world.customer()
        cart_id, address_id = await world.cart(customer_id, {variant_id: 4}), await world.address(customer_id)
        method_id = await world.shipping_method()
        refusal = await world.refused(
            "POST", f"/carts/{cart_id}/order", address_id=address_id, shipping_method_id=method_id
        )
        assert (refusal.status, "1 of 4" in refusal.detail) == (409, True)
        for table in ("orders", "order_lines", "order_events", "stock_reservations", "jobs"):
            assert database.value(f"select count(*) from {table}") == 0
        assert database.value("select status from carts") == "open"

    @pytest.mark.parametrize(
        ("quantity", "weight", "address", "method", "status"),
        [(0, 0, 1, 1, 409), (1, 30001, 1, 1, 409), (1, 0, 2, 1, 404), (1, 0, 1, 9, 404)],
        ids=["empty", "too heavy", "somebody else's address", "no such method"],
    )
    async def test_a_senseless_order_is_refused(
        self, quantity: int, weight: int, address: int, method: int, status: int, world: ShopWorld
    ) -> None:
        variant_id, customer_id = await world.sellable(weight_grams=weight), await world.customer()
        cart_id = await world.cart(customer_id, {variant_id: quantity} if quantity else {})
        await world.address(customer_id)
        await world.address(await world.customer())
        await world.shipping_method()
        refusal = await world.refused("POST", f"/carts/{cart_id}/order", address_id=address, shipping_method_id=method)
        assert refusal.status == status

    async def test_a_cart_is_ordered_once(self, world: ShopWorld) -> None:
        await world.order()
        refusal = await world.refused("POST", "/carts/1/order", address_id=1, shipping_method_id=1)
        assert (refusal.status, "ordered" in refusal.detail) == (409, True)

    async def test_a_cancelled_order_frees_its_stock(self, world: ShopWorld, database: LeasedDatabase) -> None:
        order = await world.order()
        await world.authorised(order)
        cancelled = await world.post(f"/orders/{order['id']}/cancel", reason="late")
        assert cancelled["status"] == "cancelled"
        assert database.rows("select on_hand, reserved from stock_items") == [(10, 0)]
        assert database.value("select status from stock_reservations") == "released"
        assert database.value("select status from payments") == "failed"

    @pytest.mark.parametrize("step", ["cancel", "paid", "shipped"])
    async def test_only_a_placed_order_is_cancelled(self, step: str, world: ShopWorld) -> None:
        order = await world.order() if step == "cancel" else await world.paid_order()
        if step == "cancel":
            await world.post(f"/orders/{order['id']}/cancel")
        if step == "shipped":
            await world.post(f"/orders/{order['id']}/ship", tracking_code="T1")
        assert (await world.refused("POST", f"/orders/{order['id']}/cancel", reason="x")).status == 409

    async def test_the_last_piece_is_sold_once(self, world: ShopWorld, database: LeasedDatabase) -> None:
        variant_id, method_id = await world.sellable(stock=1), await world.shipping_method()
        bodies = []
        for _ in range(4):
            customer_id = await world.customer()
            cart_id, address_id = await world.cart(customer_id, {variant_id: 1}), await world.address(customer_id)
            bodies.append((cart_id, {"address_id": address_id, "shipping_method_id": method_id}))
        answers = await asyncio.gather(*(world.client.post(f"/carts/{cart}/order", json=body) for cart, body in bodies))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        assert database.rows("select on_hand, reserved from stock_items") == [(1, 1)]


class TestCoupons:
    @pytest.mark.parametrize(
        ("kind", "value", "discount", "shipping"),
        [
            ("percent", 10, 200, 500),
            ("percent", 33, 660, 500),
            ("fixed", 750, 750, 500),
            ("fixed", 9999, 2000, 500),
            ("free_shipping", 0, 0, 0),
        ],
    )
    async def test_what_a_coupon_brings(
        self, kind: str, value: int, discount: int, shipping: int, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        customer_id = await world.customer()
        cart_id = await world.cart(customer_id, {await world.sellable(): 2})
        await world.post(f"/carts/{cart_id}/coupon", code=await world.coupon(kind, value))
        order = await world.post(
            f"/carts/{cart_id}/order",
            address_id=await world.address(customer_id),
            shipping_method_id=await world.shipping_method(),
        )
        assert (order["discount_cents"], order["shipping_cents"]) == (discount, shipping)
        assert order["tax_cents"] == ((2000 - discount) * 19 + 50) // 100
        assert database.rows("select customer_id, order_id, discount_cents from coupon_redemptions") == [
            (customer_id, order["id"], discount)
        ]

    @pytest.mark.parametrize(
        ("promotion", "coupon", "word"),
        [
            ({"is_active": False}, {}, "switched off"),
            ({"starts_at": (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()}, {}, "not valid yet"),
            ({"ends_at": (datetime.now(timezone.utc) - timedelta(days=1)).isoformat()}, {}, "not valid any more"),
            ({}, {"maximum_uses": 2, "used_count": 2}, "used up"),
        ],
    )
    async def test_a_coupon_that_is_not_valid_says_why(
        self, promotion: Json, coupon: Json, word: str, world: ShopWorld
    ) -> None:
        code = await world.coupon(promotion=promotion, **coupon)
        refusal = await world.refused("GET", f"/coupons/{code}/check?customer_id=1&subtotal_cents=100")
        assert (refusal.status, word in refusal.detail) == (409, True)

    async def test_an_unknown_coupon_is_not_found(self, world: ShopWorld) -> None:
        assert (await world.refused("GET", "/coupons/NONE/check?customer_id=1&subtotal_cents=1")).status == 404

    async def test_once_per_customer_is_once_per_customer(self, world: ShopWorld) -> None:
        code = await world.coupon(maximum_uses_per_customer=1)
        variant_id, method_id = await world.sellable(), await world.shipping_method()
        outcomes = []
        first, second = await world.customer(), await world.customer()
        for customer_id in (first, first, second):
            cart_id = await world.cart(customer_id, {variant_id: 1})
            answer = await world.client.post(f"/carts/{cart_id}/coupon", json={"code": code})
            if answer.is_success:
                body = {"address_id": await world.address(customer_id), "shipping_method_id": method_id}
                await world.send("POST", f"/carts/{cart_id}/order", body)
            outcomes.append(answer.status_code)
        assert outcomes == [200, 409, 200]

    async def test_below_the_minimum_a_coupon_brings_nothing(self, world: ShopWorld) -> None:
        cart_id = await world.cart(await world.customer(), {await world.sellable(1000): 1})
        await world.post(f"/carts/{cart_id}/coupon", code=await world.coupon(promotion={"minimum_cents": 1001}))
        assert (await world.get(f"/carts/{cart_id}"))["discount_cents"] == 0


class TestPayments:
    async def test_a_captured_payment_makes_a_paid_order_and_invoice_one(self, world: ShopWorld) -> None:
        order = await world.paid_order()
        assert order["status"] == "paid"
        assert (order["payment"]["status"], order["payment"]["invoice_number"]) == ("captured", 1)

    async def test_the_same_key_gives_the_same_payment(self, world: ShopWorld, database: LeasedDatabase) -> None:
        order = await world.order()
        first = await world.authorised(order, key="once")
        assert await world.authorised(order, key="once") == first
        assert database.value("select count(*) from payments") == 1

    async def test_the_same_key_for_another_order_is_refused(self, world: ShopWorld) -> None:
        variant_id = await world.sellable()
        await world.authorised(await world.order({variant_id: 1}), key="once")
        second = await world.order({variant_id: 1})
        refusal = await world.refused(
            "POST", f"/orders/{second['id']}/payments", amount_cents=100, idempotency_key="once"
        )
        assert refusal.status == 409

    async def test_two_payments_at_once_never_pay_twice(self, world: ShopWorld, database: LeasedDatabase) -> None:
        order = await world.order()
        answers = await asyncio.gather(
            *(
                world.client.post(
                    f"/orders/{order['id']}/payments",
                    json={"amount_cents": order["total_cents"], "idempotency_key": f"key-{number}"},
                )
                for number in range(3)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [201, 422, 422]
        assert database.value("select sum(amount_cents) from payments") == order["total_cents"]

    @pytest.mark.parametrize("cents", [0, -1, 2881])
    async def test_an_amount_that_is_not_owed_is_refused(self, cents: int, world: ShopWorld) -> None:
        order = await world.order()
        refusal = await world.refused(
            "POST", f"/orders/{order['id']}/payments", amount_cents=cents, idempotency_key="k"
        )
        assert (refusal.status, "2880 cents are owed" in refusal.detail) == (422, True)

    async def test_an_order_is_paid_when_all_parts_are_captured(self, world: ShopWorld) -> None:
        order = await world.order()
        parts = [await world.authorised(order, cents) for cents in (1000, 1880)]
        await world.post(f"/payments/{parts[0]['id']}/capture")
        assert (await world.order_now(order))["status"] == "placed"
        last = await world.post(f"/payments/{parts[1]['id']}/capture")
        assert last["invoice_number"] == 2
        assert (await world.order_now(order))["status"] == "paid"

    async def test_a_payment_is_captured_once(self, world: ShopWorld) -> None:
        order = await world.paid_order()
        assert (await world.refused("POST", f"/payments/{order['payment']['id']}/capture")).status == 409

    @pytest.mark.parametrize(
        ("parts", "status", "payment"), [([1000], "paid", "captured"), ([1000, 1880], "refunded", "refunded")]
    )
    async def test_refunds_in_parts(
        self, parts: list[int], status: str, payment: str, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        order = await world.paid_order()
        for cents in parts:
            await world.post(f"/payments/{order['payment']['id']}/refund", amount_cents=cents, actor="clerk")
        assert (await world.order_now(order))["status"] == status
        assert database.value("select status from payments") == payment
        assert database.value("select count(*) from audit_entries where action = 'refund'") == len(parts)

    @pytest.mark.parametrize("cents", [0, 2881])
    async def test_never_more_is_refunded_than_was_paid(self, cents: int, world: ShopWorld) -> None:
        order = await world.paid_order()
        refusal = await world.refused(
            "POST", f"/payments/{order['payment']['id']}/refund", amount_cents=cents, actor="clerk"
        )
        assert refusal.status == 422

    @pytest.mark.parametrize(
        ("balance", "left", "status"), [(1000, 0, "placed"), (2880, 0, "paid"), (5000, 2120, "paid")]
    )
    async def test_a_gift_card_pays_what_it_can(self, balance: int, left: int, status: str, world: ShopWorld) -> None:
        await world.post("/admin/gift-cards", code="GIFT", currency_code="EUR", balance_cents=balance)
        order = await world.order()
        paid = await world.post(f"/orders/{order['id']}/gift-card", code="GIFT")
        assert paid["amount_cents"] == balance - left
        assert (await world.get("/admin/gift-cards/1"))["balance_cents"] == left
        assert (await world.order_now(order))["status"] == status

    @pytest.mark.parametrize(
        ("card", "status"),
        [({"currency_code": "GBP"}, 409), ({"balance_cents": 0}, 409), ({"is_active": False}, 404)],
    )
    async def test_a_gift_card_that_does_not_fit_is_refused(self, card: Json, status: int, world: ShopWorld) -> None:
        await world.post("/admin/gift-cards", **({"code": "GIFT", "currency_code": "EUR", "balance_cents": 9} | card))
        order = await world.order()
        assert (await world.refused("POST", f"/orders/{order['id']}/gift-card", code="GIFT")).status == status

    async def test_a_number_drawn_is_drawn_though_nothing_was_written(self, world: ShopWorld) -> None:
        assert await world.post("/payments/numbers") == {"order": 1000, "invoice": 1}
        order = await world.paid_order()
        assert (order["number"], order["payment"]["invoice_number"]) == ("S-1001", 2)


class TestShipping:
    async def test_shipping_takes_the_goods_out_of_the_warehouse(
        self, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        order = await world.paid_order()
        shipment = await world.post(f"/orders/{order['id']}/ship", tracking_code="T1")
        assert (shipment["id"], shipment["status"]) == (1, "created")
        assert database.rows("select on_hand, reserved from stock_items") == [(8, 0)]
        assert database.rows("select quantity, reason from stock_movements order by id") == [
            (10, "received"),
            (-2, "shipped"),
        ]

    async def test_only_a_paid_order_is_shipped(self, world: ShopWorld) -> None:
        order = await world.order()
        assert (await world.refused("POST", f"/orders/{order['id']}/ship", tracking_code="T1")).status == 409

    async def test_a_tracking_code_belongs_to_one_parcel(self, world: ShopWorld) -> None:
        variant_id = await world.sellable()
        orders = [await world.paid_order({variant_id: 1}) for _ in range(2)]
        await world.post(f"/orders/{orders[0]['id']}/ship", tracking_code="T1")
        assert (await world.refused("POST", f"/orders/{orders[1]['id']}/ship", tracking_code="T1")).status == 409
        assert (await world.order_now(orders[1]))["status"] == "paid"

    async def test_a_parcel_on_its_way(self, world: ShopWorld) -> None:
        order = await world.paid_order()
        await world.post(f"/orders/{order['id']}/ship", tracking_code="T1")
        for status, place in (("in_transit", "Depot"), ("in_transit", "Van"), ("delivered", "Door")):
            await world.post("/shipping/parcels/T1", status=status, location=place)
        assert (await world.order_now(order))["status"] == "delivered"
        history = await world.get("/shipping/parcels/T1")
        assert [(event["id"], event["location"]) for event in history] == [(1, "Depot"), (2, "Van"), (3, "Door")]
        assert (await world.refused("POST", "/shipping/parcels/T1", status="lost")).status == 409

    @pytest.mark.parametrize(("grams", "codes"), [(0, ["b", "a"]), (1000, ["b", "a"]), (1001, ["a"]), (30001, [])])
    async def test_quotes_are_cheapest_first(self, grams: int, codes: list[str], world: ShopWorld) -> None:
        await world.shipping_method(900, code="a")
        await world.shipping_method(300, code="b", maximum_weight_grams=1000)
        await world.shipping_method(100, code="c", is_active=False)
        assert [quote["code"] for quote in await world.get(f"/shipping/quotes?weight_grams={grams}")] == codes

    async def test_an_unknown_parcel_is_not_found(self, world: ShopWorld) -> None:
        assert (await world.refused("POST", "/shipping/parcels/NONE", status="lost")).status == 404
