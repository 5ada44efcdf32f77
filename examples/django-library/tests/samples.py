"""Makes what tests need: members, works, editions, copies. Every call makes new ones."""

from __future__ import annotations

import itertools
from datetime import date
from typing import Any

from django.contrib.auth.models import Group, User

from catalogue.counting import recount_copies
from catalogue.isbn import check_digit
from catalogue.models import Branch, Copy, Edition, Language, Publisher, Shelf, Work
from circulation.models import Category, Member

TODAY = date(2026, 3, 2)
counter = itertools.count(1)


def an_isbn() -> str:
    """A valid ISBN nobody has used yet."""
    twelve = f"9783{next(counter):08d}"
    return twelve + check_digit(twelve)


def a_work(title: str = "Middlemarch", language: str = "en") -> Work:
    """A work in a language that is there already."""
    return Work.objects.create(title=title, language=Language.objects.get(code=language))


def an_edition(work: Work | None = None) -> Edition:
    """An edition by some publisher."""
    publisher, _ = Publisher.objects.get_or_create(name="Penguin")
    return Edition.objects.create(work=work or a_work(), publisher=publisher, isbn=an_isbn(), year=1994)


def a_shelf(branch: str = "main", label: str = "A1") -> Shelf:
    """A shelf, made if need be."""
    house, _ = Branch.objects.get_or_create(code=branch, defaults={"name": branch})
    shelf, _ = Shelf.objects.get_or_create(branch=house, label=label)
    return shelf


def a_copy(edition: Edition | None = None, **fields: Any) -> Copy:
    """A copy on the shelf, counted."""
    fields.setdefault("shelf", a_shelf())
    copy = Copy.objects.create(edition=edition or an_edition(), barcode=f"B{next(counter):06d}", **fields)
    recount_copies(copy.edition)
    return copy


def a_member(category: str = "adult", **fields: Any) -> Member:
    """Somebody with a new card."""
    number = next(counter)
    return Member.objects.create(
        card=f"C{number:06d}", name=f"Member {number}", category=Category.objects.get(code=category), **fields
    )


def a_user(**fields: Any) -> User:
    """Somebody who can log in."""
    return User.objects.create_user(f"user{next(counter)}", password="secret", **fields)


def a_clerk() -> User:
    """Somebody at the desk."""
    clerk = a_user()
    clerk.groups.add(Group.objects.get(name="clerks"))
    return clerk
