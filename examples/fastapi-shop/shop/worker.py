"""The background worker: a thread with an engine of its own that works off the outbox."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, create_engine, func, make_url, select, text
from sqlalchemy.orm import Session, sessionmaker

from shop.models import (
    Customer,
    EmailMessage,
    Job,
    LoyaltyEntry,
    Order,
    ProductVariant,
    StockItem,
    SupportCase,
    Webhook,
    WebhookDelivery,
)
from shop.settings import settings

Handler = Callable[[Session, Job], dict[str, Any]]
HANDLERS: dict[str, Handler] = {}
LOYALTY_CENTS_PER_POINT = 100


def handles(kind: str) -> Callable[[Handler], Handler]:
    """Register a function for a kind of job."""

    def register(handler: Handler) -> Handler:
        HANDLERS[kind] = handler
        return handler

    return register


def worker_engine() -> Engine:
    """An engine on the database that the settings name for the worker, through psycopg whatever the prefix says."""
    url = make_url(settings.worker_database_url)
    kept = {key: value for key, value in url.query.items() if not key.startswith("prepared_statement_")}
    return create_engine(url.set(drivername="postgresql+psycopg", query=kept), pool_size=2, max_overflow=2)


class Worker:
    """Works off queued jobs, each in a transaction of its own; several workers share the table without meeting."""

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or worker_engine()
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def run_one(self) -> int | None:
        """Work off the oldest job that is due; its id, or None when there is none."""
        with self._sessions() as session, session.begin():
            job = session.scalars(
                select(Job)
                .where(Job.status == "queued", Job.run_at <= func.now())
                .order_by(Job.run_at, Job.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).one_or_none()
            if job is None:
                return None
            self._work_off(session, job)
            return job.id

    def run_all(self) -> list[int]:
        """Work off what is due until nothing is; the ids in order."""
        done = []
        while (job_id := self.run_one()) is not None:
            done.append(job_id)
        return done

    def _work_off(self, session: Session, job: Job) -> None:
        job.attempts += 1
        try:
            with session.begin_nested():
                handler = HANDLERS.get(job.kind)
                if handler is None:
                    raise LookupError(f"nobody handles jobs of kind {job.kind!r}")
                result = handler(session, job)
        except Exception as error:
            job.last_error = f"{type(error).__name__}: {error}"
            if job.attempts >= job.maximum_attempts:
                job.status, job.finished_at = "failed", func.now()
            else:
                job.run_at = func.now() + timedelta(seconds=2**job.attempts)
        else:
            job.status, job.result, job.finished_at, job.last_error = "done", result, func.now(), None

    def start(self) -> None:
        """Work in a thread until `stop`."""
        self._thread = threading.Thread(target=self._loop, name="shop-worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the job in hand and close the connections."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self.engine.dispose()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            if self.run_one() is None:
                self._stopping.wait(settings.worker_poll_seconds)


def _send(session: Session, job: Job, recipient: str, subject: str, body: str) -> dict[str, Any]:
    session.add(EmailMessage(job_id=job.id, recipient=recipient, subject=subject, body=body))
    return {"recipient": recipient}


@handles("customer.welcome")
def welcome(session: Session, job: Job) -> dict[str, Any]:
    """Greet a new customer."""
    customer = session.get_one(Customer, job.payload["customer_id"])
    return _send(session, job, customer.email, f"Welcome, {customer.full_name}", "Your account is open.")


@handles("order.confirmation")
def confirm_order(session: Session, job: Job) -> dict[str, Any]:
    """Confirm an order by e-mail and give a loyalty point for each full euro."""
    order = session.get_one(Order, job.payload["order_id"])
    customer = session.get_one(Customer, order.customer_id)
    points = order.total_cents // LOYALTY_CENTS_PER_POINT
    if points:
        session.add(LoyaltyEntry(customer_id=customer.id, points=points, reason=f"order {order.number}"))
    body = f"{len(order.lines)} lines, {order.total_cents} {order.currency_code} cents"
    return _send(session, job, customer.email, f"Your order {order.number}", body) | {"points": points}


@handles("order.shipped")
def tell_shipment(session: Session, job: Job) -> dict[str, Any]:
    """Tell the customer that the parcel is on its way."""
    order = session.get_one(Order, job.payload["order_id"])
    customer = session.get_one(Customer, order.customer_id)
    return _send(session, job, customer.email, f"Order {order.number} is on its way", job.payload["tracking_code"])


@handles("support.answer")
def tell_answer(session: Session, job: Job) -> dict[str, Any]:
    """Tell the customer that there is an answer."""
    case = session.get_one(SupportCase, job.payload["case_id"])
    customer = session.get_one(Customer, case.customer_id)
    return _send(session, job, customer.email, f"Answer: {case.subject}", "Please look into your account.")


@handles("stock.low")
def warn_low_stock(session: Session, job: Job) -> dict[str, Any]:
    """Warn the buyers; nothing to do when the stock has come meanwhile."""
    item = session.get_one(StockItem, job.payload["stock_item_id"])
    if item.available > item.reorder_point:
        return {"recipient": None}
    variant = session.get_one(ProductVariant, item.variant_id)
    return _send(session, job, "buyers@shop.example", f"Low stock: {variant.sku}", f"{item.available} left")


@handles("webhook")
def deliver_webhooks(session: Session, job: Job) -> dict[str, Any]:
    """Tell an event to each active listener."""
    hooks = session.scalars(
        select(Webhook).where(Webhook.event == job.payload["event"], Webhook.is_active).order_by(Webhook.id)
    ).all()
    for hook in hooks:
        session.add(WebhookDelivery(webhook_id=hook.id, job_id=job.id, body=job.payload))
    return {"deliveries": len(hooks)}


@handles("ratings.refresh")
def refresh_ratings(session: Session, job: Job) -> dict[str, Any]:
    """Work the ratings out again."""
    session.execute(text("refresh materialized view product_ratings"))
    return {"rated_products": session.scalar(text("select count(*) from product_ratings"))}


def main() -> None:
    """Run a worker until interrupted: `python -m shop.worker`."""
    worker = Worker()
    worker.start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        worker.stop()


if __name__ == "__main__":
    main()
