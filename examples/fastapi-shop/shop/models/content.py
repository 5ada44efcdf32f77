"""Words around the goods: pages and blog posts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, text
from sqlalchemy.orm import Mapped, mapped_column

from shop.models.base import Base, Identified, Updated, one_of


class Page(Identified, Updated, Base):
    """A page such as the terms of sale; `version` counts its publications."""

    __tablename__ = "pages"
    __table_args__ = (one_of("status", "draft", "published"),)

    slug: Mapped[str] = mapped_column(String(120), unique=True)
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(server_default=text("''"))
    status: Mapped[str] = mapped_column(String(20), server_default=text("'draft'"))
    version: Mapped[int] = mapped_column(server_default=text("0"))


class BlogPost(Identified, Updated, Base):
    """A post, visible from `published_at` on."""

    __tablename__ = "blog_posts"

    slug: Mapped[str] = mapped_column(String(120), unique=True)
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(server_default=text("''"))
    author: Mapped[str] = mapped_column(String(120))
    published_at: Mapped[datetime | None]
