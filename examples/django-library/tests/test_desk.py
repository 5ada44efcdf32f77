"""Lending, giving back, renewing."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from catalogue.models import Copy
from circulation.calendar import next_open_day, open_days_between
from circulation.desk import give_back, lend, renew
from circulation.errors import Refused
from circulation.holds import place_hold
from circulation.models import Category, ClosedDay, Fine, Loan
from tests.samples import TODAY, a_copy, a_member, a_shelf

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("category", "days"), [("adult", 28), ("child", 28), ("staff", 90)])
def test_a_loan_is_due_as_the_category_says(category: str, days: int) -> None:
    loan = lend(a_member(category).card, a_copy().barcode, TODAY)
    assert loan.due_on == TODAY + timedelta(days=days)


def test_a_lent_copy_is_not_available() -> None:
    copy = a_copy()
    lend(a_member().card, copy.barcode, TODAY)
    copy.refresh_from_db()
    copy.edition.refresh_from_db()
    assert (copy.state, copy.edition.copies_available) == (Copy.State.ON_LOAN, 0)


@pytest.mark.parametrize("state", ["on_loan", "lost", "withdrawn", "reserved"])
def test_only_what_is_on_the_shelf_is_lent(state: str) -> None:
    copy = a_copy(state=state)
    with pytest.raises(Refused, match=copy.barcode):
        lend(a_member().card, copy.barcode, TODAY)
    assert not Loan.objects.exists()


@pytest.mark.parametrize(("blocked_until", "is_refused"), [(TODAY, True), (TODAY - timedelta(days=1), False), (None, False)])
def test_a_blocked_card_lends_nothing(blocked_until: date | None, is_refused: bool) -> None:
    member, copy = a_member(blocked_until=blocked_until), a_copy()
    if is_refused:
        with pytest.raises(Refused, match="blocked until 2026-03-02"):
            lend(member.card, copy.barcode, TODAY)
    else:
        assert lend(member.card, copy.barcode, TODAY).member == member


def test_there_is_a_most_of_loans() -> None:
    Category.objects.filter(code="adult").update(max_loans=2)
    member = a_member()
    for _ in range(2):
        lend(member.card, a_copy().barcode, TODAY)
    with pytest.raises(Refused, match="no more than 2 loans"):
        lend(member.card, a_copy().barcode, TODAY)


@pytest.mark.parametrize(("cents", "is_refused"), [(1000, False), (1001, True)])
def test_who_owes_much_lends_nothing(cents: int, is_refused: bool) -> None:
    member = a_member()
    late = lend(member.card, a_copy().barcode, TODAY)
    Fine.objects.create(loan=late, cents=cents)
    if is_refused:
        with pytest.raises(Refused, match="fines to pay"):
            lend(member.card, a_copy().barcode, TODAY)
    else:
        lend(member.card, a_copy().barcode, TODAY)


def test_a_copy_that_came_back_is_available() -> None:
    copy, member = a_copy(), a_member()
    lend(member.card, copy.barcode, TODAY)
    loan = give_back(copy.barcode, TODAY + timedelta(days=3))
    copy.refresh_from_db()
    copy.edition.refresh_from_db()
    assert (loan.returned_on, copy.state, copy.edition.copies_available) == (date(2026, 3, 5), Copy.State.AVAILABLE, 1)


def test_what_is_not_lent_cannot_come_back() -> None:
    with pytest.raises(Refused, match="not on loan"):
        give_back(a_copy().barcode, TODAY)


def test_a_renewal_counts_from_the_day_it_is_made() -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY)
    renewed = renew(loan, TODAY + timedelta(days=10))
    assert renewed.due_on == TODAY + timedelta(days=38)
    assert renewed.renewals.get().due_before == loan.due_on


@pytest.mark.parametrize(("category", "times"), [("adult", 2), ("child", 3), ("staff", 5)])
def test_renewals_come_to_an_end(category: str, times: int) -> None:
    loan = lend(a_member(category).card, a_copy().barcode, TODAY)
    for _ in range(times):
        renew(loan, TODAY)
    with pytest.raises(Refused, match="cannot be renewed again"):
        renew(loan, TODAY)


def test_no_renewal_while_somebody_waits() -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY)
    place_hold(a_member(), loan.copy.edition.work)
    with pytest.raises(Refused, match="somebody waits"):
        renew(loan, TODAY)


def test_no_renewal_of_what_came_back() -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY)
    give_back(loan.copy.barcode, TODAY)
    with pytest.raises(Refused, match="given back"):
        renew(loan, TODAY)


@pytest.mark.parametrize(
    ("day", "opens"),
    [
        (date(2026, 12, 24), date(2026, 12, 24)),
        (date(2026, 12, 25), date(2026, 12, 27)),
        (date(2026, 12, 26), date(2026, 12, 27)),
        (date(2026, 1, 1), date(2026, 1, 2)),
    ],
)
def test_nothing_falls_due_on_a_closed_day(day: date, opens: date) -> None:
    assert next_open_day(day, None) == opens
    copy = a_copy()
    assert lend(a_member().card, copy.barcode, day - timedelta(days=28)).due_on == opens


@pytest.mark.parametrize(
    ("branch", "expected"),
    [("main", date(2026, 5, 1)), ("north", date(2026, 5, 2))],
)
def test_a_branch_may_close_alone(branch: str, expected: date) -> None:
    north = a_shelf("north", "N1").branch
    ClosedDay.objects.create(day=date(2026, 5, 1), branch=north)
    assert next_open_day(date(2026, 5, 1), a_shelf(branch, "X").branch) == expected


@pytest.mark.parametrize(
    ("after", "until", "days"),
    [
        (date(2026, 12, 23), date(2026, 12, 24), 1),
        (date(2026, 12, 24), date(2026, 12, 28), 2),
        (date(2026, 12, 24), date(2026, 12, 26), 0),
        (date(2026, 12, 24), date(2026, 12, 20), 0),
    ],
)
def test_open_days_are_counted(after: date, until: date, days: int) -> None:
    assert open_days_between(after, until, None) == days
