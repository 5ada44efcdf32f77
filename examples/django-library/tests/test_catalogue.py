"""The catalogue: what the migrations brought, what the database keeps, what is counted."""

from __future__ import annotations

import pytest
from django.db import connection

from catalogue.counting import below, holdings_by_branch, recount_copies
from catalogue.models import Author, Branch, Contribution, Copy, Language, Shelf, Subject, Work
from tests.samples import a_copy, a_shelf, a_work, an_edition

pytestmark = pytest.mark.django_db


def test_the_languages_are_there() -> None:
    assert Language.objects.count() == 8
    assert str(Language.objects.get(code="pl")) == "Polish"


@pytest.mark.parametrize(
    ("notation", "path"),
    [("512", ["512", "51", "5"]), ("519", ["519", "51", "5"]), ("82", ["82", "8"]), ("00", ["00", "0"]), ("9", ["9"])],
)
def test_the_classification_is_a_tree(notation: str, path: list[str]) -> None:
    subject: Subject | None = Subject.objects.get(notation=notation)
    walked = []
    while subject is not None:
        walked.append(subject.notation)
        subject = subject.parent
    assert walked == path


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        ("5", {"5", "51", "512", "519", "53"}),
        ("51", {"51", "512", "519"}),
        ("512", {"512"}),
        ("8", {"8", "82", "83"}),
    ],
)
def test_below_finds_everything_beneath(notation: str, expected: set[str]) -> None:
    assert below(Subject.objects.get(notation=notation)) == expected


def test_below_takes_one_query_per_level(django_assert_num_queries: object) -> None:
    subject = Subject.objects.get(notation="5")
    with django_assert_num_queries(3):  # type: ignore[operator]
        below(subject)


@pytest.mark.parametrize(
    ("title", "key"),
    [("Middlemarch", "middlemarch"), ("À rebours", "a rebours"), ("Übung", "ubung"), ("El Niño", "el nino"), ("1984", "1984")],
)
def test_the_trigger_makes_the_key(title: str, key: str) -> None:
    work = a_work(title)
    work.refresh_from_db()
    assert work.title_key == key


def test_the_trigger_follows_a_new_title() -> None:
    work = a_work("Old")
    Work.objects.filter(pk=work.pk).update(title="Néw")
    work.refresh_from_db()
    assert work.title_key == "new"


def test_the_contributors_come_in_their_order() -> None:
    work = a_work()
    for position, name in [(2, "Second"), (1, "First"), (3, "Third")]:
        Contribution.objects.create(work=work, author=Author.objects.create(name=name), position=position)
    assert [contribution.author.name for contribution in work.contributions.all()] == ["First", "Second", "Third"]


@pytest.mark.parametrize(
    ("states", "count"),
    [
        ([], 0),
        (["available"], 1),
        (["available", "available", "on_loan"], 2),
        (["lost", "withdrawn", "reserved", "on_loan"], 0),
    ],
)
def test_only_copies_on_the_shelf_are_available(states: list[str], count: int) -> None:
    edition = an_edition()
    for state in states:
        a_copy(edition, state=state)
    assert recount_copies(edition) == count
    edition.refresh_from_db()
    assert edition.copies_available == count


def test_holdings_name_every_branch() -> None:
    Branch.objects.create(code="annex", name="Annex")
    a_copy()
    a_copy(state=Copy.State.LOST)
    a_copy(shelf=a_shelf("north", "N1"), state=Copy.State.ON_LOAN)
    assert holdings_by_branch() == {"annex": 0, "main": 1, "north": 1}


def test_shelves_of_two_branches_may_have_one_label() -> None:
    north = Branch.objects.create(code="north", name="North")
    Shelf.objects.create(branch=north, label="A1")
    assert Shelf.objects.filter(label="A1").count() == 2


def test_each_test_starts_with_no_works() -> None:
    assert not Work.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from catalogue_copy")
        assert cursor.fetchone() == (0,)
