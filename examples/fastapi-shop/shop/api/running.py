"""Routers of what goes on behind the counter: stock, purchasing, accounts, reviews, content, support, jobs, reports."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import text

from shop import models
from shop.database import RequestSession
from shop.schemas import read_schema
from shop.services import community, customers, inventory, jobs

stock = APIRouter(prefix="/stock", tags=["stock"])
purchasing = APIRouter(prefix="/purchasing", tags=["purchasing"])
accounts = APIRouter(prefix="/customers", tags=["customers"])
reviews = APIRouter(prefix="/reviews", tags=["reviews"])
content = APIRouter(prefix="/content", tags=["content"])
support = APIRouter(prefix="/support", tags=["support"])
job_desk = APIRouter(prefix="/jobs", tags=["jobs"])
reports = APIRouter(prefix="/reports", tags=["reports"])
health = APIRouter(prefix="/health", tags=["health"])

StockItemRead = read_schema(models.StockItem)
PurchaseRead = read_schema(models.PurchaseOrder)
CustomerRead = read_schema(models.Customer)
AddressRead = read_schema(models.Address)
ReviewRead = read_schema(models.Review)
PageRead = read_schema(models.Page)
PostRead = read_schema(models.BlogPost)
CaseRead = read_schema(models.SupportCase)
MessageRead = read_schema(models.SupportMessage)
JobRead = read_schema(models.Job)


class Receive(BaseModel):
    """Goods that have come in."""

    warehouse_id: int
    variant_id: int
    quantity: int


class Count(BaseModel):
    """What somebody has counted."""

    counted: int = Field(ge=0)


class Transfer(BaseModel):
    """Goods that go from one warehouse to another."""

    variant_id: int
    source_id: int
    target_id: int
    quantity: int


@stock.post("/receive", response_model=StockItemRead)
async def receive_stock(body: Receive, session: RequestSession) -> models.StockItem:
    return await inventory.receive(session, body.warehouse_id, body.variant_id, body.quantity)


@stock.post("/items/{stock_item_id}/count", response_model=StockItemRead)
async def count_stock(stock_item_id: int, body: Count, session: RequestSession) -> models.StockItem:
    return await inventory.adjust(session, stock_item_id, body.counted)


@stock.post("/transfer", status_code=204)
async def transfer_stock(body: Transfer, session: RequestSession) -> None:
    await inventory.transfer(session, body.variant_id, body.source_id, body.target_id, body.quantity)


@stock.get("/low", response_model=list[StockItemRead])  # type: ignore[valid-type]  # made from the model at run time
async def low_stock(session: RequestSession) -> list[models.StockItem]:
    return await inventory.low_stock(session)


class ReceivePurchase(BaseModel):
    """A supplier's delivery: pieces by variant."""

    quantities: dict[int, int]


@purchasing.post("/{purchase_order_id}/receive", response_model=PurchaseRead)
async def receive_purchase(
    purchase_order_id: int, body: ReceivePurchase, session: RequestSession
) -> models.PurchaseOrder:
    return await inventory.receive_purchase(session, purchase_order_id, body.quantities)


class Register(BaseModel):
    """A new account."""

    email: str = Field(max_length=200)
    full_name: str = Field(min_length=1, max_length=200)


class Points(BaseModel):
    """Points to give or, when negative, to take."""

    points: int
    reason: str = Field(min_length=1, max_length=120)


class Actor(BaseModel):
    """Who does it, for the audit trail."""

    actor: str = Field(min_length=1, max_length=120)


@accounts.post("", status_code=201, response_model=CustomerRead)
async def register_customer(body: Register, session: RequestSession) -> models.Customer:
    return await customers.register(session, body.email, body.full_name)


@accounts.post("/{customer_id}/default-address/{address_id}", response_model=AddressRead)
async def make_default_address(customer_id: int, address_id: int, session: RequestSession) -> models.Address:
    return await customers.make_default_address(session, customer_id, address_id)


@accounts.post("/{customer_id}/points")
async def change_points(customer_id: int, body: Points, session: RequestSession) -> dict[str, int]:
    return {"balance": await customers.add_points(session, customer_id, body.points, body.reason)}


@accounts.get("/{customer_id}/points")
async def read_points(customer_id: int, session: RequestSession) -> dict[str, int]:
    return {"balance": await customers.points_balance(session, customer_id)}


@accounts.post("/{customer_id}/anonymise", response_model=CustomerRead)
async def anonymise_customer(customer_id: int, body: Actor, session: RequestSession) -> models.Customer:
    return await customers.anonymise(session, customer_id, body.actor)


class WriteReview(BaseModel):
    """An opinion."""

    product_id: int
    customer_id: int
    rating: int
    body: str = ""


class Moderate(Actor):
    """A moderator's verdict."""

    verdict: Literal["approved", "rejected"]


class Vote(BaseModel):
    """Whether a review helped."""

    customer_id: int
    is_helpful: bool


@reviews.post("", status_code=201, response_model=ReviewRead)
async def write_review(body: WriteReview, session: RequestSession) -> models.Review:
    return await community.write_review(session, body.product_id, body.customer_id, body.rating, body.body)


@reviews.post("/{review_id}/moderate", response_model=ReviewRead)
async def moderate_review(review_id: int, body: Moderate, session: RequestSession) -> models.Review:
    return await community.moderate(session, review_id, body.verdict, body.actor)


@reviews.post("/{review_id}/votes")
async def vote_on_review(review_id: int, body: Vote, session: RequestSession) -> dict[str, int]:
    return await community.vote(session, review_id, body.customer_id, body.is_helpful)


@content.post("/pages/{page_id}/publish", response_model=PageRead)
async def publish_page(page_id: int, session: RequestSession) -> models.Page:
    return await community.publish_page(session, page_id)


@content.get("/pages/{slug}", response_model=PageRead)
async def read_page(slug: str, session: RequestSession) -> models.Page:
    return await community.published_page(session, slug)


@content.get("/posts", response_model=list[PostRead])  # type: ignore[valid-type]  # as above
async def list_posts(session: RequestSession) -> list[models.BlogPost]:
    return await community.visible_posts(session)


class OpenCase(BaseModel):
    """A customer's question."""

    customer_id: int
    subject: str = Field(min_length=1, max_length=200)
    body: str
    order_id: int | None = None


class Reply(BaseModel):
    """A message in a case."""

    author: Literal["customer", "staff"]
    body: str = Field(min_length=1)


@support.post("", status_code=201, response_model=CaseRead)
async def open_case(body: OpenCase, session: RequestSession) -> models.SupportCase:
    return await community.open_case(session, body.customer_id, body.subject, body.body, body.order_id)


@support.post("/{case_id}/messages", response_model=CaseRead)
async def reply_to_case(case_id: int, body: Reply, session: RequestSession) -> models.SupportCase:
    return await community.reply(session, case_id, body.author, body.body)


@support.get("/{case_id}/messages", response_model=list[MessageRead])  # type: ignore[valid-type]  # as above
async def read_messages(case_id: int, session: RequestSession) -> list[models.SupportMessage]:
    return await community.messages(session, case_id)


@support.post("/{case_id}/close", response_model=CaseRead)
async def close_case(case_id: int, session: RequestSession) -> models.SupportCase:
    return await community.close_case(session, case_id)


class QueueJob(BaseModel):
    """Something for the worker."""

    kind: str = Field(min_length=1, max_length=60)
    payload: dict[str, Any] = Field(default_factory=dict)


@job_desk.post("", status_code=201, response_model=JobRead)
async def queue_job(body: QueueJob, session: RequestSession) -> models.Job:
    job = jobs.enqueue(session, body.kind, **body.payload)
    await session.flush()
    await session.refresh(job)
    await session.commit()
    return job


@job_desk.get("/counts")
async def count_jobs(session: RequestSession) -> dict[str, int]:
    return await jobs.counts(session)


@job_desk.post("/{job_id}/retry", response_model=JobRead)
async def retry_job(job_id: int, session: RequestSession) -> models.Job:
    return await jobs.retry(session, job_id)


@reports.get("/sales-by-day")
async def sales_by_day(session: RequestSession) -> list[dict[str, Any]]:
    rows = await session.execute(text("select * from sales_by_day order by day, currency_code"))
    return [dict(row) for row in rows.mappings()]


@reports.get("/ratings")
async def ratings(session: RequestSession) -> list[dict[str, Any]]:
    rows = await session.execute(text("select * from product_ratings order by product_id"))
    return [dict(row) for row in rows.mappings()]


@health.get("")
async def read_health(session: RequestSession) -> dict[str, Any]:
    row = await session.execute(text("select current_database() as database, current_user as acting_as"))
    return dict(row.mappings().one())


ROUTERS = [stock, purchasing, accounts, reviews, content, support, job_desk, reports, health]
