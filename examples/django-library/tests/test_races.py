"""Two desks at once, each in a thread with a connection of its own; so these tests commit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from catalogue.models import Copy
from circulation.desk import give_back, lend
from circulation.errors import Refused
from circulation.fines import owed_cents, pay
from circulation.holds import place_hold
from circulation.models import Fine, Hold, Loan
from journal.models import Entry, Export
from journal.recording import export_new
from tests.samples import TODAY, a_copy, a_member, a_work

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True, databases={"default", "audit"})
DESKS = 4
At = Callable[[list[Callable[[], object]]], list[object]]


@pytest.fixture
def at_once() -> Iterator[At]:
    """Calls all of them at the same moment, and returns what each returned or was refused with."""
    with ThreadPoolExecutor(DESKS) as pool:

        def run(calls: list[Callable[[], object]]) -> list[object]:
            start = threading.Barrier(len(calls))

            def one(call: Callable[[], object]) -> object:
                start.wait(timeout=30)
                try:
                    return call()
                except Refused as error:
                    return error
                finally:
                    connections.close_all()

            return list(pool.map(one, calls))

        yield run


def refusals(answers: list[object]) -> int:
    """How many were refused."""
    return sum(isinstance(answer, Refused) for answer in answers)


def test_a_copy_is_lent_once(at_once: At) -> None:
    copy = a_copy()
    cards = [a_member().card for _ in range(DESKS)]
    answers = at_once([lambda card=card: lend(card, copy.barcode, TODAY) for card in cards])  # type: ignore[misc]
    assert refusals(answers) == DESKS - 1
    assert Loan.objects.count() == 1
    assert Entry.objects.filter(kind_id="lent").count() == 1


def test_one_card_takes_no_more_than_it_may(at_once: At) -> None:
    member = a_member()
    member.category.max_loans = 2
    member.category.save()
    copies = [a_copy() for _ in range(DESKS)]
    answers = at_once([lambda copy=copy: lend(member.card, copy.barcode, TODAY) for copy in copies])  # type: ignore[misc]
    assert refusals(answers) == DESKS - 2


def test_copies_that_come_back_together_go_to_different_people(at_once: At) -> None:
    work = a_work()
    first = a_copy()
    first.edition.work = work
    first.edition.save()
    copies = [first, *(a_copy(first.edition) for _ in range(DESKS - 1))]
    for copy in copies:
        lend(a_member().card, copy.barcode, TODAY)
    for _ in range(DESKS):
        place_hold(a_member(), work)
    answers = at_once([lambda copy=copy: give_back(copy.barcode, TODAY) for copy in copies])  # type: ignore[misc]
    assert refusals(answers) == 0
    assert {hold.copy for hold in Hold.objects.all()} == set(Copy.objects.all())


def test_a_fine_is_not_paid_twice(at_once: At) -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY)
    fine = Fine.objects.create(loan=loan, cents=100)
    answers = at_once([lambda: pay(fine, 60)] * DESKS)
    assert refusals(answers) == DESKS - 1
    assert owed_cents(loan.member) == 40


def test_a_member_queues_once(at_once: At) -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY)
    member = a_member()
    assert refusals(at_once([lambda: place_hold(member, loan.copy.edition.work)] * DESKS)) == DESKS - 1


def test_an_entry_is_exported_once(at_once: At) -> None:
    Entry.objects.bulk_create(Entry(kind_id="lent") for _ in range(10))
    exports = [answer for answer in at_once([export_new] * DESKS) if answer is not None]
    assert len(exports) == 1
    assert Export.objects.get().count == 10
