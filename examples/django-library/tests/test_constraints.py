"""What the database itself refuses, whoever writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from catalogue.models import Author, Branch, Contribution, Edition, Language, Shelf, Subject
from circulation.models import ClosedDay, Fine, Hold, Loan, Payment
from tests.samples import TODAY, a_copy, a_member, a_work, an_edition

pytestmark = pytest.mark.django_db


def subject_its_own_parent() -> None:
    subject = Subject.objects.get(notation="5")
    Subject.objects.filter(pk=subject.pk).update(parent=subject)


def author_twice() -> None:
    Author.objects.create(name="Anonymous")
    Author.objects.create(name="Anonymous")


def author_died_first() -> None:
    Author.objects.create(name="Nobody", born=1900, died=1899)


def contribution_twice() -> None:
    work, author = a_work(), Author.objects.create(name="A")
    Contribution.objects.create(work=work, author=author, position=1)
    Contribution.objects.create(work=work, author=author, position=2)


def edition_without_pages() -> None:
    Edition.objects.filter(pk=an_edition().pk).update(pages=0)


def shelf_twice() -> None:
    Shelf.objects.create(branch=Branch.objects.get(code="main"), label="A1")


def negative_count() -> None:
    Edition.objects.filter(pk=an_edition().pk).update(copies_available=-1)


def closed_twice() -> None:
    ClosedDay.objects.create(day=date(2026, 1, 1))


def lent_twice() -> None:
    copy = a_copy()
    for member in (a_member(), a_member()):
        Loan.objects.create(copy=copy, member=member, lent_on=TODAY, due_on=TODAY)


def due_before_lent() -> None:
    Loan.objects.create(copy=a_copy(), member=a_member(), lent_on=TODAY, due_on=date(2026, 3, 1))


def returned_before_lent() -> None:
    Loan.objects.create(copy=a_copy(), member=a_member(), lent_on=TODAY, due_on=TODAY, returned_on=date(2026, 3, 1))


def held_twice() -> None:
    member, work = a_member(), a_work()
    Hold.objects.create(member=member, work=work)
    Hold.objects.create(member=member, work=work)


def copy_set_aside_twice() -> None:
    copy = a_copy()
    for member in (a_member(), a_member()):
        Hold.objects.create(member=member, work=copy.edition.work, copy=copy)


def payment_of_nothing() -> None:
    loan = Loan.objects.create(copy=a_copy(), member=a_member(), lent_on=TODAY, due_on=TODAY)
    Payment.objects.create(fine=Fine.objects.create(loan=loan, cents=5), cents=0)


@pytest.mark.parametrize(
    ("breach", "constraint"),
    [
        (subject_its_own_parent, "subject_not_its_own_parent"),
        (author_twice, "author_once"),
        (author_died_first, "author_died_after_birth"),
        (contribution_twice, "contribution_once"),
        (edition_without_pages, "edition_has_pages"),
        (shelf_twice, "shelf_once_in_branch"),
        (negative_count, "catalogue_edition_copies_available_check"),
        (closed_twice, "closed_once"),
        (lent_twice, "copy_lent_once"),
        (due_before_lent, "loan_due_after_lent"),
        (returned_before_lent, "loan_returned_after_lent"),
        (held_twice, "hold_once"),
        (copy_set_aside_twice, "copy_set_aside_once"),
        (payment_of_nothing, "payment_of_something"),
    ],
)
def test_the_constraint_refuses(breach: Callable[[], None], constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        breach()


def test_contributors_change_places_in_one_transaction() -> None:
    work = a_work()
    one = Contribution.objects.create(work=work, author=Author.objects.create(name="One"), position=1)
    two = Contribution.objects.create(work=work, author=Author.objects.create(name="Two"), position=2)
    with transaction.atomic():
        Contribution.objects.filter(pk=one.pk).update(position=2)
        Contribution.objects.filter(pk=two.pk).update(position=1)
    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")
    assert [contribution.author.name for contribution in work.contributions.all()] == ["Two", "One"]


def test_two_contributors_in_one_place_are_found_out_at_commit() -> None:
    work = a_work()
    for name in ("One", "Two"):
        Contribution.objects.create(work=work, author=Author.objects.create(name=name), position=1)
    with pytest.raises(IntegrityError, match="contribution_position"), connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")


def test_a_language_in_use_stays() -> None:
    a_work(language="pl")
    with pytest.raises(ProtectedError):
        Language.objects.get(code="pl").delete()


def test_a_copy_is_lent_again_after_it_came_back() -> None:
    copy = a_copy()
    Loan.objects.create(copy=copy, member=a_member(), lent_on=TODAY, due_on=TODAY, returned_on=TODAY)
    assert Loan.objects.create(copy=copy, member=a_member(), lent_on=TODAY, due_on=TODAY).pk
