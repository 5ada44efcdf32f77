"""The journal on its own database: written after the commit, exported once, forgotten in time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections, router, transaction
from django.utils import timezone

from catalogue.models import Work
from circulation.desk import give_back, lend, renew
from circulation.fines import pay
from circulation.holds import place_hold
from circulation.models import Fine
from journal.models import Entry, Export, Kind
from journal.recording import export_new, forget_old, record
from tests.samples import TODAY, a_copy, a_member

pytestmark = pytest.mark.django_db(databases={"default", "audit"})


def test_the_kinds_are_on_the_audit_database_alone() -> None:
    assert Kind.objects.count() == 7
    assert "journal_kind" in connections["audit"].introspection.table_names()
    assert "journal_kind" not in connections["default"].introspection.table_names()
    assert "catalogue_work" not in connections["audit"].introspection.table_names()


@pytest.mark.parametrize(("model", "alias"), [(Entry, "audit"), (Kind, "audit"), (Work, "default")])
def test_the_router_knows_where_a_model_lives(model: type[Entry], alias: str) -> None:
    assert (router.db_for_read(model), router.db_for_write(model)) == (alias, alias)
    assert model.objects.all().db == alias


def test_an_entry_is_written_after_the_commit(django_capture_on_commit_callbacks: object) -> None:
    with django_capture_on_commit_callbacks() as callbacks:  # type: ignore[operator]
        record("lent", member_card="C1")
        assert not Entry.objects.exists()
    assert len(callbacks) == 1
    callbacks[0]()
    assert Entry.objects.get().member_card == "C1"


def test_nothing_is_written_after_a_rollback(django_capture_on_commit_callbacks: object) -> None:
    with django_capture_on_commit_callbacks(execute=True) as callbacks, transaction.atomic():  # type: ignore[operator]
        record("lent", member_card="C1")
        transaction.set_rollback(True)
    assert callbacks == []
    assert not Entry.objects.exists()


def test_the_desk_leaves_a_trace(django_capture_on_commit_callbacks: object) -> None:
    member, copy = a_member(), a_copy()
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        loan = lend(member.card, copy.barcode, TODAY)
        renew(loan, TODAY)
        waiting = place_hold(a_member(), copy.edition.work)
        give_back(copy.barcode, TODAY + timedelta(days=40))
        pay(Fine.objects.get(), 100)
    assert list(Entry.objects.values_list("kind_id", flat=True)) == ["lent", "renewed", "held", "set_aside", "returned", "paid"]
    assert Entry.objects.get(kind_id="set_aside").member_card == waiting.member.card
    assert Entry.objects.get(kind_id="lent").detail == {"due": "2026-03-30"}


def test_an_export_takes_what_is_new() -> None:
    assert export_new() is None
    for number in range(3):
        Entry.objects.create(kind_id="lent", member_card=f"C{number}")
    first = export_new()
    assert first is not None
    assert first.count == 3
    assert export_new() is None
    Entry.objects.create(kind_id="returned")
    second = export_new()
    assert second is not None
    assert (second.count, second.first) == (1, second.last)


@pytest.mark.parametrize(
    ("kind", "days", "is_forgotten"),
    [("lent", 89, False), ("lent", 91, True), ("held", 31, True), ("paid", 91, False), ("paid", 3651, True)],
)
def test_each_kind_is_kept_for_its_time(kind: str, days: int, is_forgotten: bool) -> None:
    entry = Entry.objects.create(kind_id=kind)
    Entry.objects.filter(pk=entry.pk).update(at=timezone.now() - timedelta(days=days))
    assert forget_old() == int(is_forgotten)
    assert Entry.objects.exists() is not is_forgotten


def test_an_exported_end_is_not_forgotten() -> None:
    entry = Entry.objects.create(kind_id="lent")
    export_new()
    Entry.objects.update(at=timezone.now() - timedelta(days=365))
    assert forget_old() == 0
    assert Export.objects.get().last == entry
