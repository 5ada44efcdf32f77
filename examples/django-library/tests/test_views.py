"""The site over HTTP: the public catalogue, the desk, a member's own page."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from catalogue.models import Subject, Work
from circulation.desk import lend
from circulation.models import Loan
from tests.samples import TODAY, a_clerk, a_copy, a_member, a_user, a_work

# The catalogue is read from the replica, a connection of its own: what it reads has to be committed.
replicated = pytest.mark.django_db(databases={"default", "replica"}, transaction=True, serialized_rollback=True)


@replicated
@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("", ["Brave New World", "Middlemarch", "Éloge de la folie"]),
        ("?q=MARCH", ["Middlemarch"]),
        ("?q=eloge", ["Éloge de la folie"]),
        ("?q=nothing", []),
        ("?subject=8", ["Brave New World", "Middlemarch"]),
        ("?subject=82&q=brave", ["Brave New World"]),
        ("?subject=5", []),
    ],
)
def test_works_are_found(client: Client, query: str, titles: list[str]) -> None:
    english = Subject.objects.get(notation="82")
    for title in ("Middlemarch", "Brave New World"):
        a_work(title).subjects.add(english)
    a_work("Éloge de la folie", "fr")
    answer = client.get(reverse("works") + query).json()
    assert sorted(work["title"] for work in answer["works"]) == titles
    assert answer["count"] == len(titles)


@replicated
def test_works_come_in_pages(client: Client) -> None:
    Work.objects.bulk_create(Work(title=f"Volume {number:02d}", language_id="en") for number in range(25))
    first, second = (client.get(reverse("works"), {"page": page}).json() for page in (1, 2))
    assert [len(first["works"]), len(second["works"])] == [20, 5]
    assert first["count"] == 25


@replicated
@pytest.mark.parametrize("page", ["0", "-1", "two", ""])
def test_a_page_is_a_number(client: Client, page: str) -> None:
    answer = client.get(reverse("works"), {"page": page})
    assert (answer.status_code, answer.json()["error"]) == (400, "page has to be a number, 1 or more")


@replicated
def test_an_edition_says_what_is_on_the_shelf(client: Client) -> None:
    edition = a_copy().edition
    hyphenated = f"{edition.isbn[:3]}-{edition.isbn[3:]}"
    assert client.get(reverse("edition", args=[hyphenated])).json()["available"] == 1


@pytest.mark.parametrize(("isbn", "status"), [("12", 400), ("9780141439540", 400)])
def test_a_wrong_isbn_needs_no_database(client: Client, isbn: str, status: int) -> None:
    assert client.get(reverse("edition", args=[isbn])).status_code == status


@pytest.mark.parametrize("name", ["works", "mine"])
def test_what_is_read_takes_no_post(client: Client, name: str) -> None:
    assert client.post(reverse(name)).status_code == 405


@pytest.mark.django_db
def test_a_clerk_lends_and_takes_back(client: Client) -> None:
    client.force_login(a_clerk())
    member, copy = a_member(), a_copy()
    assert client.post(reverse("lend"), {"card": member.card, "barcode": copy.barcode}).status_code == 201
    assert Loan.objects.get().member == member
    answer = client.post(reverse("return"), {"barcode": copy.barcode})
    assert (answer.status_code, answer.json()) == (200, {"owed_cents": 0})


@pytest.mark.django_db
def test_the_desk_says_why_not(client: Client) -> None:
    client.force_login(a_clerk())
    answer = client.post(reverse("lend"), {"card": a_member().card, "barcode": a_copy(state="lost").barcode})
    assert answer.status_code == 409
    assert answer.json()["error"].endswith("is lost")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["lend", "return"])
def test_only_clerks_work_at_the_desk(client: Client, name: str) -> None:
    assert client.post(reverse(name)).status_code == 403
    client.force_login(a_user())
    assert client.post(reverse(name)).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize("missing", ["card", "barcode"])
def test_who_and_what_have_to_be_known(client: Client, missing: str) -> None:
    client.force_login(a_clerk())
    data = {"card": a_member().card, "barcode": a_copy().barcode}
    assert client.post(reverse("lend"), {**data, missing: "?"}).status_code == 404


@pytest.mark.django_db
def test_a_member_sees_what_is_at_home(client: Client) -> None:
    member = a_member(user=a_user())
    lend(member.card, a_copy().barcode, TODAY)
    lend(a_member().card, a_copy().barcode, TODAY)
    assert member.user is not None
    client.force_login(member.user)
    answer = client.get(reverse("mine")).json()
    assert answer == {"loans": [{"title": "Middlemarch", "due": "2026-03-30"}], "owed_cents": 0}


@pytest.mark.django_db
def test_a_member_waits_in_line(client: Client) -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY)
    work = loan.copy.edition.work
    for place in (1, 2):
        member = a_member(user=a_user())
        assert member.user is not None
        client.force_login(member.user)
        assert client.post(reverse("hold", args=[work.pk])).json() == {"place": place}
    assert client.post(reverse("hold", args=[work.pk])).status_code == 409


@pytest.mark.django_db
def test_strangers_are_sent_to_the_login(client: Client) -> None:
    answer = client.get(reverse("mine"))
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/login/?next=/me/")
