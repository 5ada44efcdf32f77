"""Django's own test classes: what a class sets up, what is flushed, what comes back, where sequences start."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, transaction
from django.test import TestCase, TransactionTestCase

from catalogue.models import Language, Publisher, Subject, Work
from circulation.models import Category
from journal.models import Entry, Kind
from tests.samples import a_work


class SetUpOnce(TestCase):
    """What the class made is there for each test, and unchanged."""

    work: ClassVar[Work]

    @classmethod
    def setUpTestData(cls) -> None:
        """One work for all."""
        cls.work = a_work("Romola")

    def test_a_change_is_rolled_back_for_the_next(self) -> None:
        self.work.title = "Changed"
        self.work.save()
        assert Work.objects.get().title == "Changed"

    def test_b_sees_it_as_it_was(self) -> None:
        assert Work.objects.get().title == self.work.title == "Romola"


class BothDatabases(TestCase):
    """Each alias is rolled back."""

    databases = {"default", "audit"}

    def test_a_writes_to_both(self) -> None:
        a_work()
        Entry.objects.create(kind_id="lent")

    def test_b_finds_neither(self) -> None:
        assert not Work.objects.exists()
        assert not Entry.objects.exists()


class OnlyDefault(TestCase):
    """An alias that a test does not name is refused."""

    def test_the_journal_is_out_of_reach(self) -> None:
        with self.assertRaisesMessage(AssertionError, "Database queries to 'audit' are not allowed"):
            Kind.objects.count()


class SequencesStartAgain(TransactionTestCase):
    """With reset_sequences the first row is row 1, whatever ran before."""

    reset_sequences = True
    # On every class that truncates: Django makes rights again after a flush without it, with other numbers, and
    # what is brought back for a later class then collides with them.
    serialized_rollback = True

    def test_a_first_row(self) -> None:
        assert Publisher.objects.create(name="First").pk == 1

    def test_b_first_row_again(self) -> None:
        assert Publisher.objects.create(name="First").pk == 1


class ComesBack(TransactionTestCase):
    """With serialized_rollback the migrations' data is there although each test before truncated everything."""

    serialized_rollback = True
    databases = {"default", "audit"}

    def assert_reference_data(self) -> None:
        """What the migrations made, on both."""
        assert Language.objects.count() == 8
        assert Subject.objects.count() == 12
        assert set(Category.objects.values_list("pk", flat=True)) == {"adult", "child", "staff"}
        assert Kind.objects.count() == 7

    def test_a_the_data_is_there(self) -> None:
        self.assert_reference_data()
        Category.objects.filter(pk="child").delete()

    def test_b_the_data_is_there_again(self) -> None:
        self.assert_reference_data()

    def test_rights_point_at_their_models(self) -> None:
        right = Permission.objects.get(codename="waive_fine")
        assert right.content_type == ContentType.objects.get(app_label="circulation", model="fine")


class Commits(TransactionTestCase):
    """Real transactions: on_commit, and connections that see each other's work."""

    serialized_rollback = True
    databases = {"default", "replica"}

    def test_on_commit_waits_for_the_outermost(self) -> None:
        calls: list[str] = []
        with transaction.atomic():
            with transaction.atomic():
                transaction.on_commit(lambda: calls.append("committed"))
            assert calls == []
        assert calls == ["committed"]

    def test_the_replica_is_the_default_database(self) -> None:
        work = a_work("Romola")
        assert Work.objects.using("replica").get() == work
        assert database_of("replica") == database_of("default")

    def test_ddl_works_and_truncate_restarts(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("create table scratch (id bigint generated always as identity, note text)")
            cursor.execute("insert into scratch (note) values ('a'), ('b')")
            cursor.execute("truncate scratch restart identity")
            cursor.execute("insert into scratch (note) values ('c') returning id")
            assert cursor.fetchone() == (1,)
            cursor.execute("drop table scratch")


class Apart(TransactionTestCase):
    """Two aliases are two databases."""

    serialized_rollback = True
    databases = {"default", "audit"}

    def test_the_aliases_are_two_databases(self) -> None:
        assert database_of("default") != database_of("audit")


def database_of(alias: str) -> str:
    """The database that this alias is connected to, by its own word."""
    with connections[alias].cursor() as cursor:
        cursor.execute("select current_database()")
        return str(cursor.fetchone()[0])
