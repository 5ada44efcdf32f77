"""Reviews with moderation and votes; pages and posts; support cases."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from shop.errors import Conflict, NotFound
from shop.models import (
    BlogPost,
    Order,
    OrderLine,
    Page,
    ProductVariant,
    Review,
    ReviewVote,
    SupportCase,
    SupportMessage,
)
from shop.services.audit import record
from shop.services.jobs import enqueue


async def write_review(session: AsyncSession, product_id: int, customer_id: int, rating: int, body: str) -> Review:
    """A review waits for a moderator; it is verified when the customer's order of that product was delivered."""
    bought = await session.scalar(
        select(func.count())
        .select_from(OrderLine)
        .join(Order, Order.id == OrderLine.order_id)
        .join(ProductVariant, ProductVariant.id == OrderLine.variant_id)
        .where(Order.customer_id == customer_id, Order.status == "delivered", ProductVariant.product_id == product_id)
    )
    review = Review(product_id=product_id, customer_id=customer_id, rating=rating, body=body, is_verified=bool(bought))
    session.add(review)
    await session.flush()
    await session.refresh(review)
    await session.commit()
    return review


async def moderate(session: AsyncSession, review_id: int, verdict: str, actor: str) -> Review:
    """Approve or reject; the ratings are worked out again by the worker."""
    review = await session.get(Review, review_id, with_for_update=True)
    if review is None:
        raise NotFound(f"no review {review_id}")
    if review.status != "pending":
        raise Conflict(f"review {review_id} is {review.status}")
    review.status = verdict
    record(session, actor, verdict, "review", review_id)
    enqueue(session, "ratings.refresh")
    await session.flush()
    await session.refresh(review)
    await session.commit()
    return review


async def vote(session: AsyncSession, review_id: int, customer_id: int, is_helpful: bool) -> dict[str, int]:
    """One vote per customer, who may change their mind."""
    review = await session.get(Review, review_id)
    if review is None or review.status != "approved":
        raise NotFound(f"no approved review {review_id}")
    if review.customer_id == customer_id:
        raise Conflict("nobody votes on their own review")
    await session.execute(
        insert(ReviewVote)
        .values(review_id=review_id, customer_id=customer_id, is_helpful=is_helpful)
        .on_conflict_do_update(index_elements=["review_id", "customer_id"], set_={"is_helpful": is_helpful})
    )
    await session.commit()
    votes = await session.execute(
        select(ReviewVote.is_helpful, func.count())
        .where(ReviewVote.review_id == review_id)
        .group_by(ReviewVote.is_helpful)
    )
    counted = dict(votes.all())
    return {"helpful": counted.get(True, 0), "unhelpful": counted.get(False, 0)}


async def publish_page(session: AsyncSession, page_id: int) -> Page:
    """Publish; each publication is a new version."""
    page = await session.get(Page, page_id, with_for_update=True)
    if page is None:
        raise NotFound(f"no page {page_id}")
    page.status = "published"
    page.version += 1
    await session.flush()
    await session.refresh(page)
    await session.commit()
    return page


async def published_page(session: AsyncSession, slug: str) -> Page:
    """What visitors see."""
    found = await session.scalars(select(Page).where(Page.slug == slug, Page.status == "published"))
    page = found.one_or_none()
    if page is None:
        raise NotFound(f"no page {slug!r}")
    return page


async def visible_posts(session: AsyncSession) -> list[BlogPost]:
    """Posts whose time has come, newest first."""
    return list(
        await session.scalars(
            select(BlogPost).where(BlogPost.published_at <= func.now()).order_by(BlogPost.published_at.desc())
        )
    )


async def open_case(
    session: AsyncSession, customer_id: int, subject: str, body: str, order_id: int | None
) -> SupportCase:
    """A customer asks."""
    case = SupportCase(customer_id=customer_id, subject=subject, order_id=order_id)
    session.add(case)
    await session.flush()
    session.add(SupportMessage(case_id=case.id, author="customer", body=body))
    await session.flush()
    await session.refresh(case)
    await session.commit()
    return case


async def reply(session: AsyncSession, case_id: int, author: str, body: str) -> SupportCase:
    """An answer of the staff makes a case answered; a word of the customer opens it again."""
    case = await session.get(SupportCase, case_id, with_for_update=True)
    if case is None:
        raise NotFound(f"no case {case_id}")
    if case.status == "closed" and author == "staff":
        raise Conflict(f"case {case_id} is closed")
    session.add(SupportMessage(case_id=case_id, author=author, body=body))
    case.status = "answered" if author == "staff" else "open"
    if author == "staff":
        enqueue(session, "support.answer", case_id=case_id)
    await session.flush()
    await session.refresh(case)
    await session.commit()
    return case


async def close_case(session: AsyncSession, case_id: int) -> SupportCase:
    """Done."""
    case = await session.get(SupportCase, case_id, with_for_update=True)
    if case is None:
        raise NotFound(f"no case {case_id}")
    case.status = "closed"
    await session.flush()
    await session.refresh(case)
    await session.commit()
    return case


async def messages(session: AsyncSession, case_id: int) -> list[SupportMessage]:
    """The conversation, oldest first."""
    return list(
        await session.scalars(
            select(SupportMessage).where(SupportMessage.case_id == case_id).order_by(SupportMessage.id)
        )
    )
