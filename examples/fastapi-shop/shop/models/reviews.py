"""What customers say about products, after a moderator has read it."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shop.models.base import Base, Created, Identified, Updated, one_of


class Review(Identified, Updated, Base):
    """One opinion per customer and product."""

    __tablename__ = "reviews"
    __table_args__ = (
        UniqueConstraint("product_id", "customer_id"),
        CheckConstraint("rating between 1 and 5", name="rating_in_range"),
        one_of("status", "pending", "approved", "rejected"),
    )

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"), index=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"))
    rating: Mapped[int]
    body: Mapped[str] = mapped_column(server_default=text("''"))
    status: Mapped[str] = mapped_column(String(20), server_default=text("'pending'"))
    is_verified: Mapped[bool] = mapped_column(server_default=text("false"))


class ReviewVote(Identified, Created, Base):
    """Whether another customer found a review helpful."""

    __tablename__ = "review_votes"
    __table_args__ = (UniqueConstraint("review_id", "customer_id"),)

    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"))
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"))
    is_helpful: Mapped[bool]
