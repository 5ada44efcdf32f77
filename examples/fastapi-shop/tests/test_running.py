"""Behind the counter: stock, purchasing, accounts, reviews, content, support."""

from __future__ import annotations

import asyncio

import pytest

from tests.clean_database import LeasedDatabase
from tests.shop_world import Json, ShopWorld


class TestStock:
    async def test_what_comes_in_adds_up_and_is_written_down(self, world: ShopWorld, database: LeasedDatabase) -> None:
        variant_id = await world.variant()
        await world.stock(variant_id, 3)
        item = await world.stock(variant_id, 4)
        assert (item["id"], item["on_hand"]) == (1, 7)
        assert database.rows("select quantity from stock_movements order by id") == [(3,), (4,)]

    @pytest.mark.parametrize("quantity", [0, -5])
    async def test_nothing_is_not_received(self, quantity: int, world: ShopWorld) -> None:
        body = {"warehouse_id": await world.warehouse(), "variant_id": await world.variant(), "quantity": quantity}
        assert (await world.refused("POST", "/stock/receive", **body)).status == 422

    async def test_many_deliveries_at_once_lose_nothing(self, world: ShopWorld, database: LeasedDatabase) -> None:
        body = {"warehouse_id": await world.warehouse(), "variant_id": await world.variant(), "quantity": 1}
        answers = await asyncio.gather(*(world.client.post("/stock/receive", json=body) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        assert database.rows("select count(*), sum(on_hand) from stock_items") == [(1, 8)]

    @pytest.mark.parametrize(("counted", "movement"), [(12, 2), (10, 0), (4, -6)])
    async def test_what_was_counted_is_what_there_is(
        self, counted: int, movement: int, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        item = await world.stock(await world.variant(), 10)
        assert (await world.post(f"/stock/items/{item['id']}/count", counted=counted))["on_hand"] == counted
        assert database.value("select quantity from stock_movements where reason = 'adjusted'") == movement

    async def test_fewer_than_were_promised_cannot_be_counted(self, world: ShopWorld) -> None:
        await world.order({await world.sellable(stock=5): 3})
        assert (await world.refused("POST", "/stock/items/1/count", counted=2)).status == 409

    async def test_a_transfer_moves_and_loses_nothing(self, world: ShopWorld, database: LeasedDatabase) -> None:
        variant_id = await world.variant()
        await world.stock(variant_id, 10, "A")
        await world.stock(variant_id, 1, "B")
        await world.post("/stock/transfer", variant_id=variant_id, source_id=1, target_id=2, quantity=4)
        assert database.rows("select warehouse_id, on_hand from stock_items order by 1") == [(1, 6), (2, 5)]
        assert database.value("select sum(quantity) from stock_movements where reason = 'transferred'") == 0

    @pytest.mark.parametrize(
        ("source", "target", "quantity", "status"), [(1, 2, 11, 409), (1, 1, 1, 422), (1, 2, 0, 422)]
    )
    async def test_a_senseless_transfer_is_refused(
        self, source: int, target: int, quantity: int, status: int, world: ShopWorld
    ) -> None:
        variant_id = await world.variant()
        await world.stock(variant_id, 10, "A")
        await world.warehouse("B")
        body = {"variant_id": variant_id, "source_id": source, "target_id": target, "quantity": quantity}
        assert (await world.refused("POST", "/stock/transfer", **body)).status == status

    async def test_transfers_in_both_directions_do_not_deadlock(
        self, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        variant_id = await world.variant()
        await world.stock(variant_id, 20, "A")
        await world.stock(variant_id, 20, "B")
        answers = await asyncio.gather(
            *(
                world.client.post(
                    "/stock/transfer",
                    json={"variant_id": variant_id, "source_id": source, "target_id": 3 - source, "quantity": 1},
                )
                for source in (1, 2) * 5
            )
        )
        assert {answer.status_code for answer in answers} == {204}
        assert database.rows("select on_hand from stock_items") == [(20,), (20,)]

    async def test_low_stock_is_at_or_below_the_reorder_point(self, world: ShopWorld) -> None:
        for on_hand in (4, 5, 6):
            item = await world.stock(await world.variant(), on_hand)
            await world.send("PATCH", f"/admin/stock-items/{item['id']}", {"reorder_point": 5})
        assert [item["on_hand"] for item in await world.get("/stock/low")] == [4, 5]


class TestPurchasing:
    async def purchase(self, world: ShopWorld) -> None:
        supplier = await world.post("/admin/suppliers", name="Maker")
        await world.post(
            "/admin/purchase-orders", supplier_id=supplier["id"], warehouse_id=await world.warehouse(), reference="PO-1"
        )
        for quantity in (10, 5):
            await world.post(
                "/admin/purchase-order-lines",
                purchase_order_id=1,
                variant_id=await world.variant(),
                quantity=quantity,
            )

    @pytest.mark.parametrize(
        ("deliveries", "status", "on_hand"),
        [
            ([{"1": 10, "2": 5}], "received", {1: 10, 2: 5}),
            ([{"1": 4}], "partly_received", {1: 4}),
            ([{"1": 4}, {"1": 6}, {"2": 5}], "received", {1: 10, 2: 5}),
        ],
    )
    async def test_deliveries_fill_the_warehouse(
        self,
        deliveries: list[Json],
        status: str,
        on_hand: dict[int, int],
        world: ShopWorld,
        database: LeasedDatabase,
    ) -> None:
        await self.purchase(world)
        for quantities in deliveries:
            purchase = await world.post("/purchasing/1/receive", quantities=quantities)
        assert purchase["status"] == status
        assert dict(database.rows("select variant_id, on_hand from stock_items")) == on_hand

    @pytest.mark.parametrize("quantities", [{"1": 11}, {"99": 1}, {"1": 5, "2": 6}])
    async def test_more_than_was_ordered_is_refused_as_a_whole(
        self, quantities: Json, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        await self.purchase(world)
        assert (await world.refused("POST", "/purchasing/1/receive", quantities=quantities)).status == 422
        assert database.value("select coalesce(sum(on_hand), 0) from stock_items") == 0

    async def test_a_complete_purchase_takes_no_more(self, world: ShopWorld) -> None:
        await self.purchase(world)
        await world.post("/purchasing/1/receive", quantities={"1": 10, "2": 5})
        assert (await world.refused("POST", "/purchasing/1/receive", quantities={"1": 1})).status == 409


class TestAccounts:
    async def test_registering_queues_the_welcome_in_the_same_transaction(
        self, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        customer = await world.post("/customers", email="ada@shop.example", full_name="Ada")
        assert customer["id"] == 1
        assert database.rows("select kind, payload from jobs") == [("customer.welcome", {"customer_id": 1})]

    async def test_an_address_taken_in_other_letters_is_taken(self, world: ShopWorld, database: LeasedDatabase) -> None:
        await world.post("/customers", email="ada@shop.example", full_name="Ada")
        refusal = await world.refused("POST", "/customers", email="ADA@shop.example", full_name="Other")
        assert refusal.status == 409
        assert database.value("select count(*) from jobs") == 1

    async def test_what_is_no_address_is_refused(self, world: ShopWorld) -> None:
        assert (await world.refused("POST", "/customers", email="ada", full_name="Ada")).status == 422

    async def test_there_is_one_default_address(self, world: ShopWorld, database: LeasedDatabase) -> None:
        customer_id = await world.customer()
        addresses = [await world.address(customer_id) for _ in range(3)]
        for address_id in (addresses[0], addresses[2]):
            await world.post(f"/customers/{customer_id}/default-address/{address_id}")
        assert database.rows("select id from addresses where is_default") == [(addresses[2],)]

    async def test_nobody_takes_somebody_elses_address(self, world: ShopWorld) -> None:
        address_id = await world.address(await world.customer())
        other = await world.customer()
        assert (await world.refused("POST", f"/customers/{other}/default-address/{address_id}")).status == 404

    async def test_points_add_up(self, world: ShopWorld) -> None:
        customer_id = await world.customer()
        for points, balance in ((10, 10), (-4, 6), (-6, 0)):
            answer = await world.post(f"/customers/{customer_id}/points", points=points, reason="test")
            assert answer == {"balance": balance}
        assert (await world.refused("POST", f"/customers/{customer_id}/points", points=-1, reason="x")).status == 409

    async def test_points_are_not_spent_twice_at_once(self, world: ShopWorld) -> None:
        path = f"/customers/{await world.customer()}/points"
        await world.post(path, points=10, reason="gift")
        answers = await asyncio.gather(
            *(world.client.post(path, json={"points": -10, "reason": "spend"}) for _ in range(3))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
        assert await world.get(path) == {"balance": 0}

    async def test_a_forgotten_customer_leaves_orders_and_no_name(
        self, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        customer_id = await world.customer()
        order = await world.paid_order(customer_id=customer_id)
        await world.post(f"/orders/{order['id']}/ship", tracking_code="T1")
        await world.post("/shipping/parcels/T1", status="delivered")
        forgotten = await world.post(f"/customers/{customer_id}/anonymise", actor="privacy")
        assert (forgotten["email"], forgotten["full_name"]) == (f"anonymous-{customer_id}@invalid", "anonymous")
        assert database.rows("select street, city, postcode from addresses") == [("-", "-", "-")]
        assert database.value("select count(*) from orders") == 1

    async def test_nobody_is_forgotten_while_an_order_is_under_way(self, world: ShopWorld) -> None:
        order = await world.order()
        refusal = await world.refused("POST", f"/customers/{order['customer_id']}/anonymise", actor="privacy")
        assert (refusal.status, "under way" in refusal.detail) == (409, True)


class TestReviews:
    async def review(self, world: ShopWorld, rating: int = 5) -> Json:
        review: Json = await world.post(
            "/reviews",
            product_id=await world.product(),
            customer_id=await world.customer(),
            rating=rating,
            body="Fine.",
        )
        return review

    async def test_a_review_waits_for_a_moderator(self, world: ShopWorld) -> None:
        review = await self.review(world)
        assert (review["id"], review["status"], review["is_verified"]) == (1, "pending", False)

    async def test_a_buyers_review_is_verified(self, world: ShopWorld) -> None:
        order = await world.paid_order()
        await world.post(f"/orders/{order['id']}/ship", tracking_code="T1")
        await world.post("/shipping/parcels/T1", status="delivered")
        body = {"product_id": 1, "customer_id": order["customer_id"], "rating": 5}
        assert (await world.post("/reviews", **body))["is_verified"] is True

    @pytest.mark.parametrize("rating", [0, 6])
    async def test_a_rating_out_of_range_is_refused_by_the_database(self, rating: int, world: ShopWorld) -> None:
        body = {"product_id": await world.product(), "customer_id": await world.customer(), "rating": rating}
        assert (await world.refused("POST", "/reviews", **body)).status == 422

    async def test_one_review_per_customer_and_product(self, world: ShopWorld) -> None:
        review = await self.review(world)
        body = {"product_id": review["product_id"], "customer_id": review["customer_id"], "rating": 1}
        assert (await world.refused("POST", "/reviews", **body)).status == 409

    @pytest.mark.parametrize("verdict", ["approved", "rejected"])
    async def test_a_verdict_is_given_once_and_written_down(
        self, verdict: str, world: ShopWorld, database: LeasedDatabase
    ) -> None:
        await self.review(world)
        body = {"verdict": verdict, "actor": "moderator"}
        assert (await world.post("/reviews/1/moderate", **body))["status"] == verdict
        assert (await world.refused("POST", "/reviews/1/moderate", **body)).status == 409
        assert database.rows("select actor, action from audit_entries") == [("moderator", verdict)]

    async def test_votes_are_counted_once_per_customer(self, world: ShopWorld) -> None:
        await self.review(world)
        await world.post("/reviews/1/moderate", verdict="approved", actor="moderator")
        first, second = await world.customer(), await world.customer()
        await world.post("/reviews/1/votes", customer_id=first, is_helpful=True)
        await world.post("/reviews/1/votes", customer_id=second, is_helpful=True)
        counted = await world.post("/reviews/1/votes", customer_id=first, is_helpful=False)
        assert counted == {"helpful": 1, "unhelpful": 1}

    async def test_nobody_votes_on_their_own_review_or_on_one_that_waits(self, world: ShopWorld) -> None:
        review = await self.review(world)
        body = {"customer_id": review["customer_id"], "is_helpful": True}
        assert (await world.refused("POST", "/reviews/1/votes", **body)).status == 404
        await world.post("/reviews/1/moderate", verdict="approved", actor="moderator")
        assert (await world.refused("POST", "/reviews/1/votes", **body)).status == 409


class TestContent:
    async def test_a_page_is_seen_once_published_and_counts_its_versions(self, world: ShopWorld) -> None:
        await world.post("/admin/pages", slug="terms", title="Terms")
        assert (await world.refused("GET", "/content/pages/terms")).status == 404
        for version in (1, 2):
            assert (await world.post("/content/pages/1/publish"))["version"] == version
        assert (await world.get("/content/pages/terms"))["title"] == "Terms"

    async def test_posts_appear_when_their_time_has_come(self, world: ShopWorld) -> None:
        for slug, when in (("old", "2020-01-01"), ("new", "2021-01-01"), ("coming", "2999-01-01"), ("draft", None)):
            published_at = f"{when}T00:00:00Z" if when else None
            await world.post("/admin/blog-posts", slug=slug, title=slug, author="Ada", published_at=published_at)
        assert [post["slug"] for post in await world.get("/content/posts")] == ["new", "old"]


class TestSupport:
    async def test_a_case_from_question_to_end(self, world: ShopWorld) -> None:
        case = await world.post("/support", customer_id=await world.customer(), subject="Where?", body="Where is it?")
        assert (case["id"], case["status"]) == (1, "open")
        for author, status in (("staff", "answered"), ("customer", "open"), ("staff", "answered")):
            assert (await world.post("/support/1/messages", author=author, body="…"))["status"] == status
        assert (await world.post("/support/1/close"))["status"] == "closed"
        authors = [message["author"] for message in await world.get("/support/1/messages")]
        assert authors == ["customer", "staff", "customer", "staff"]

    @pytest.mark.parametrize(("author", "status"), [("staff", 409), ("customer", 200)])
    async def test_only_the_customer_opens_a_closed_case_again(
        self, author: str, status: int, world: ShopWorld
    ) -> None:
        await world.post("/support", customer_id=await world.customer(), subject="Where?", body="?")
        await world.post("/support/1/close")
        answer = await world.client.post("/support/1/messages", json={"author": author, "body": "…"})
        assert answer.status_code == status

    @pytest.mark.parametrize("path", ["/support/1/messages", "/support/1/close"])
    async def test_an_unknown_case_is_not_found(self, path: str, world: ShopWorld) -> None:
        assert (await world.refused("POST", path, author="staff", body="…")).status == 404
