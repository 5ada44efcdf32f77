"""Waiting in line, and paying."""

from __future__ import annotations

from datetime import timedelta

import pytest

from catalogue.models import Copy
from circulation.desk import give_back, lend
from circulation.errors import Refused
from circulation.fines import charge, fine_cents, owed_cents, pay, waive
from circulation.holds import cancel, place_hold, place_in_line
from circulation.models import Fine, Hold, Loan
from tests.samples import TODAY, a_clerk, a_copy, a_member, a_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def lent() -> Loan:
    """A loan of the only copy of a work."""
    return lend(a_member().card, a_copy().barcode, TODAY)


def test_who_waits_first_gets_it_first(lent: Loan) -> None:
    work = lent.copy.edition.work
    first, second = place_hold(a_member(), work), place_hold(a_member(), work)
    assert (place_in_line(first), place_in_line(second)) == (1, 2)
    give_back(lent.copy.barcode, TODAY)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.copy, second.copy) == (lent.copy, None)
    assert place_in_line(second) == 1


def test_nobody_waits_for_what_is_on_the_shelf() -> None:
    with pytest.raises(Refused, match="copy on the shelf"):
        place_hold(a_member(), a_copy().edition.work)


def test_nobody_waits_twice(lent: Loan) -> None:
    member = a_member()
    place_hold(member, lent.copy.edition.work)
    with pytest.raises(Refused, match="waits for it already"):
        place_hold(member, lent.copy.edition.work)
    assert Hold.objects.filter(member=member).count() == 1


def test_what_is_set_aside_is_lent_to_nobody_else(lent: Loan) -> None:
    waiting = place_hold(a_member(), lent.copy.edition.work)
    give_back(lent.copy.barcode, TODAY)
    with pytest.raises(Refused, match="somebody else"):
        lend(a_member().card, lent.copy.barcode, TODAY)
    lend(waiting.member.card, lent.copy.barcode, TODAY)
    waiting.refresh_from_db()
    assert waiting.is_over


def test_a_place_given_up_passes_to_the_next(lent: Loan) -> None:
    work = lent.copy.edition.work
    first, second = place_hold(a_member(), work), place_hold(a_member(), work)
    give_back(lent.copy.barcode, TODAY)
    first.refresh_from_db()
    cancel(first)
    second.refresh_from_db()
    assert second.copy == lent.copy


def test_the_last_place_given_up_puts_the_copy_back(lent: Loan) -> None:
    hold = place_hold(a_member(), lent.copy.edition.work)
    give_back(lent.copy.barcode, TODAY)
    hold.refresh_from_db()
    cancel(hold)
    assert Copy.objects.get(pk=lent.copy.pk).state == Copy.State.AVAILABLE


@pytest.mark.parametrize(
    ("category", "days_late", "cents"),
    [
        ("adult", 0, 0),
        ("adult", 1, 20),
        ("adult", 10, 200),
        ("adult", 50, 1000),
        ("adult", 51, 1000),
        ("child", 1, 5),
        ("child", 100, 200),
        ("staff", 100, 0),
    ],
)
def test_what_a_late_return_costs(category: str, days_late: int, cents: int) -> None:
    loan = lend(a_member(category).card, a_copy().barcode, TODAY)
    assert fine_cents(loan, loan.due_on + timedelta(days=days_late)) == cents


def test_closed_days_cost_nothing() -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY.replace(month=11, day=26))
    assert loan.due_on.isoformat() == "2026-12-24"
    assert fine_cents(loan, loan.due_on.replace(day=27)) == 20


def test_a_fine_is_written_down_at_the_return(lent: Loan) -> None:
    give_back(lent.copy.barcode, lent.due_on + timedelta(days=3))
    assert Fine.objects.get().cents == 60
    assert owed_cents(lent.member) == 60


def test_a_fine_grows_and_is_not_doubled(lent: Loan) -> None:
    charge(lent, lent.due_on + timedelta(days=1))
    charge(lent, lent.due_on + timedelta(days=4))
    assert [fine.cents for fine in Fine.objects.all()] == [80]


@pytest.mark.parametrize(("payments", "left"), [([60], 0), ([20], 40), ([20, 40], 0), ([1, 1, 1], 57)])
def test_fines_are_paid_in_parts(lent: Loan, payments: list[int], left: int) -> None:
    fine = Fine.objects.create(loan=lent, cents=60)
    for cents in payments:
        pay(fine, cents)
    assert owed_cents(lent.member) == left


@pytest.mark.parametrize("payments", [[61], [60, 1], [30, 31]])
def test_nobody_pays_too_much(lent: Loan, payments: list[int]) -> None:
    fine = Fine.objects.create(loan=lent, cents=60)
    for cents in payments[:-1]:
        pay(fine, cents)
    with pytest.raises(Refused, match="cents are open"):
        pay(fine, payments[-1])


def test_a_clerk_may_waive_a_fine(lent: Loan) -> None:
    fine = Fine.objects.create(loan=lent, cents=60)
    waive(fine, a_clerk())
    assert owed_cents(lent.member) == 0
    with pytest.raises(Refused, match="only 0 cents"):
        pay(fine, 10)


def test_not_everybody_may_waive_a_fine(lent: Loan) -> None:
    with pytest.raises(Refused, match="right to waive"):
        waive(Fine.objects.create(loan=lent, cents=60), a_user())
