"""The background worker: its own connections, its own transactions, on the database of this test process."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from shop.models import Job, Tag
from shop.worker import HANDLERS, Worker, worker_engine
from tests.clean_database import LeasedDatabase
from tests.shop_world import ShopWorld


def wait_until(is_true: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Look again and again until it is true; at the deadline fail with `what`."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        # The pause between two looks, not a wait for the outcome: that one is bounded by the deadline.
        time.sleep(0.005)


def register(monkeypatch: pytest.MonkeyPatch, kind: str, handler: Callable[[Session, Job], dict[str, object]]) -> None:
    """A handler for one test."""
    monkeypatch.setitem(HANDLERS, kind, handler)


async def test_the_welcome_is_sent_once(world: ShopWorld, worker: Worker, database: LeasedDatabase) -> None:
    await world.post("/customers", email="ada@shop.example", full_name="Ada")
    assert worker.run_all() == [1]
    assert worker.run_all() == []
    assert database.rows("select job_id, recipient, subject from email_messages") == [
        (1, "ada@shop.example", "Welcome, Ada")
    ]


async def test_an_order_brings_a_confirmation_points_and_webhooks(world: ShopWorld, worker: Worker) -> None:
    for event, is_active in (("order.placed", True), ("order.placed", False), ("order.paid", True)):
        await world.post("/admin/webhooks", event=event, url="https://hook.example", is_active=is_active)
    order = await world.order()
    assert worker.run_all() == [1, 2]
    (email,) = await world.get("/admin/emails")
    assert (email["subject"], email["body"]) == ("Your order S-1000", "1 lines, 2880 EUR cents")
    assert await world.get(f"/customers/{order['customer_id']}/points") == {"balance": 28}
    (delivery,) = await world.get("/admin/deliveries")
    assert (delivery["webhook_id"], delivery["body"]) == (1, {"event": "order.placed", "order_id": 1})


async def test_a_shipment_is_told_to_the_customer(world: ShopWorld, worker: Worker) -> None:
    order = await world.paid_order()
    worker.run_all()
    await world.post(f"/orders/{order['id']}/ship", tracking_code="T-77")
    worker.run_all()
    assert [email["subject"] for email in await world.get("/admin/emails")][-1] == "Order S-1000 is on its way"


async def test_an_answer_of_the_staff_is_told_to_the_customer(world: ShopWorld, worker: Worker) -> None:
    await world.post("/support", customer_id=await world.customer(), subject="Where?", body="?")
    await world.post("/support/1/messages", author="staff", body="Here.")
    worker.run_all()
    assert [email["subject"] for email in await world.get("/admin/emails")] == ["Answer: Where?"]


@pytest.mark.parametrize(("arrives", "emails"), [(0, ["Low stock: LAMP"]), (50, [])])
async def test_low_stock_is_told_unless_goods_have_come(
    arrives: int, emails: list[str], world: ShopWorld, worker: Worker, database: LeasedDatabase
) -> None:
    variant_id = await world.sellable(stock=10, sku="LAMP")
    await world.send("PATCH", "/admin/stock-items/1", {"reorder_point": 8})
    await world.order({variant_id: 2})
    if arrives:
        await world.stock(variant_id, arrives)
    worker.run_all()
    subjects = [row[0] for row in database.rows("select subject from email_messages where subject like 'Low%'")]
    assert subjects == emails


async def test_ratings_are_those_of_approved_reviews(world: ShopWorld, worker: Worker) -> None:
    product_id = await world.product()
    for rating, verdict in ((5, "approved"), (4, "approved"), (1, "rejected")):
        review = await world.post("/reviews", product_id=product_id, customer_id=await world.customer(), rating=rating)
        await world.post(f"/reviews/{review['id']}/moderate", verdict=verdict, actor="moderator")
    assert await world.get("/reports/ratings") == []
    worker.run_all()
    assert await world.get("/reports/ratings") == [{"product_id": 1, "reviews": 2, "average": 4.5}]


async def test_ratings_of_the_test_before_are_gone(world: ShopWorld) -> None:
    assert await world.get("/reports/ratings") == []


async def test_a_job_that_nobody_handles_fails_in_the_end_and_says_so(
    world: ShopWorld, worker: Worker, database: LeasedDatabase
) -> None:
    await world.post("/jobs", kind="no.such.kind")
    for attempt in (1, 2, 3):
        assert worker.run_all() == [1]
        assert database.value("select attempts from jobs") == attempt
        database.run("update jobs set run_at = now()")
    status, error = database.rows("select status, last_error from jobs")[0]
    assert (status, error) == ("failed", "LookupError: nobody handles jobs of kind 'no.such.kind'")
    assert await world.get("/jobs/counts") == {"queued": 0, "done": 0, "failed": 1}


async def test_a_failed_attempt_waits_before_the_next(
    world: ShopWorld, worker: Worker, database: LeasedDatabase
) -> None:
    await world.post("/jobs", kind="no.such.kind")
    worker.run_all()
    assert worker.run_all() == []
    assert database.value("select run_at between now() and now() + interval '2 s' from jobs") is True


async def test_what_a_failed_attempt_wrote_is_rolled_back(
    world: ShopWorld, worker: Worker, database: LeasedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_fail(session: Session, _job: Job) -> dict[str, object]:
        session.add(Tag(name="half done"))
        session.flush()
        raise RuntimeError("on purpose")

    register(monkeypatch, "half", write_and_fail)
    await world.post("/jobs", kind="half")
    worker.run_all()
    assert database.value("select count(*) from tags") == 0
    assert database.value("select last_error from jobs") == "RuntimeError: on purpose"


async def test_a_failed_job_can_be_tried_again(
    world: ShopWorld, worker: Worker, database: LeasedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.post("/jobs", kind="later")
    database.run("update jobs set maximum_attempts = 1")
    worker.run_all()
    register(monkeypatch, "later", lambda _session, _job: {"done": True})
    assert (await world.post("/jobs/1/retry"))["attempts"] == 0
    worker.run_all()
    assert database.rows("select status, result from jobs") == [("done", {"done": True})]


@pytest.mark.parametrize("number", [1, 2])
async def test_only_a_failed_job_is_tried_again(number: int, world: ShopWorld) -> None:
    await world.post("/jobs", kind="ratings.refresh")
    assert (await world.refused("POST", f"/jobs/{number}/retry")).status == (409 if number == 1 else 404)


async def test_jobs_are_worked_off_in_order(world: ShopWorld, worker: Worker, database: LeasedDatabase) -> None:
    for _ in range(5):
        await world.post("/jobs", kind="ratings.refresh")
    database.run("update jobs set run_at = now() - interval '1 day' where id = 4")
    database.run("update jobs set run_at = now() + interval '1 day' where id = 2")
    assert worker.run_all() == [4, 1, 3, 5]


async def test_a_job_that_another_worker_has_in_hand_is_passed_over(
    world: ShopWorld, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Worker(worker_engine())
    seen: list[int | None] = []

    def look_with_the_other_worker(_session: Session, _job: Job) -> dict[str, object]:
        seen.append(other.run_one())
        return {}

    register(monkeypatch, "slow", look_with_the_other_worker)
    await world.post("/jobs", kind="slow")
    await world.post("/jobs", kind="ratings.refresh")
    assert worker.run_one() == 1
    assert seen == [2]
    other.stop()


async def test_the_worker_sees_nothing_before_the_commit(worker: Worker, database: LeasedDatabase) -> None:
    with database.connection.transaction():
        database.run("insert into jobs (kind) values ('ratings.refresh')")
        assert worker.run_one() is None
    assert worker.run_one() == 1


class TestRunningWorker:
    """The worker in its thread, as in production, while the application answers requests."""

    async def test_it_works_off_what_requests_queue(
        self, world: ShopWorld, running_worker: Worker, database: LeasedDatabase
    ) -> None:
        for number in range(3):
            await world.post("/customers", email=f"{number}@shop.example", full_name="Ada")
        wait_until(lambda: database.value("select count(*) from email_messages") == 3, "three welcomes were sent")
        assert await world.get("/jobs/counts") == {"queued": 0, "done": 3, "failed": 0}

    async def test_an_order_is_confirmed_while_it_is_paid(
        self, world: ShopWorld, running_worker: Worker, database: LeasedDatabase
    ) -> None:
        order = await world.paid_order()
        wait_until(lambda: database.value("select count(*) from jobs where status <> 'done'") == 0, "all jobs are done")
        assert order["number"] == "S-1000"
        assert database.value("select points from loyalty_entries") == 28

    async def test_it_survives_a_job_that_fails(
        self, world: ShopWorld, running_worker: Worker, database: LeasedDatabase
    ) -> None:
        await world.post("/jobs", kind="no.such.kind")
        await world.post("/jobs", kind="ratings.refresh")
        wait_until(lambda: database.value("select status from jobs where id = 2") == "done", "the second job is done")
        assert database.value("select attempts from jobs where id = 1") == 1

    @pytest.mark.parametrize("workers", [2, 3])
    async def test_several_workers_do_each_job_once(
        self, workers: int, world: ShopWorld, running_worker: Worker, database: LeasedDatabase
    ) -> None:
        others = [Worker() for _ in range(workers - 1)]
        for other in others:
            other.start()
        for number in range(12):
            await world.post("/customers", email=f"{number}@shop.example", full_name="Ada")
        wait_until(lambda: database.value("select count(*) from jobs where status = 'done'") == 12, "all jobs are done")
        for other in others:
            other.stop()
        assert database.rows("select count(*), sum(attempts) from jobs") == [(12, 12)]
        assert database.value("select count(distinct recipient) from email_messages") == 12
