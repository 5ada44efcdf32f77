"""The management commands."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from catalogue.models import Author, Edition, Publisher, Work
from circulation.desk import give_back, lend
from circulation.fines import owed_cents
from tests.samples import TODAY, a_copy, a_member

pytestmark = pytest.mark.django_db
HEADER = "isbn,title,author,publisher,year,language\n"


def said_by(command: str, *arguments: str) -> str:
    """What the command printed."""
    output = StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue().strip()


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    """Two editions of one work and one of another."""
    file = tmp_path / "works.csv"
    file.write_text(
        HEADER
        + "978-0-14-143954-9,Middlemarch,George Eliot,Penguin,1994,en\n"
        + "080442957X,Middlemarch,George Eliot,Ungar,1981,en\n"
        + "9791096320080,Romola,George Eliot,Penguin,2001,en\n",
        encoding="utf-8",
    )
    return file


def test_editions_are_imported(csv_file: Path) -> None:
    assert said_by("import_works", str(csv_file)) == "3 editions imported"
    assert (Work.objects.count(), Edition.objects.count(), Author.objects.count(), Publisher.objects.count()) == (2, 3, 1, 2)


def test_an_import_may_be_repeated(csv_file: Path) -> None:
    said_by("import_works", str(csv_file))
    assert said_by("import_works", str(csv_file)) == "0 editions imported"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("9780141439540,T,A,P,1994,en", "line 3: 9780141439540 is no ISBN: its last digit should be 9"),
        ("9780141439549,T,A,P,soon,en", "line 3: invalid literal"),
        ("9780141439549,T,A,P,1994,xx", "line 3: Language matching query does not exist"),
    ],
)
def test_one_wrong_line_imports_nothing(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "works.csv"
    file.write_text(HEADER + "9791096320080,Romola,George Eliot,Penguin,2001,en\n" + line + "\n", encoding="utf-8")
    with pytest.raises(CommandError, match=why):
        call_command("import_works", str(file))
    assert not Work.objects.exists()


def test_the_columns_have_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "works.csv"
    file.write_text("isbn,title\n", encoding="utf-8")
    with pytest.raises(CommandError, match="no column author, language, publisher, year"):
        call_command("import_works", str(file))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(CommandError, match=r"nowhere\.csv"):
        call_command("import_works", "nowhere.csv")


@pytest.mark.parametrize(
    ("days_after_due", "said", "owed"),
    [
        (0, "0 fines, 0 cards blocked", 0),
        (1, "1 fines, 0 cards blocked", 20),
        (60, "1 fines, 0 cards blocked", 1000),
        (61, "1 fines, 1 cards blocked", 1000),
    ],
)
def test_what_is_overdue_is_charged(days_after_due: int, said: str, owed: int) -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY)
    day = loan.due_on + timedelta(days=days_after_due)
    assert said_by("charge_overdue", "--today", day.isoformat()) == said
    assert owed_cents(loan.member) == owed


def test_charging_twice_a_day_changes_nothing() -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY)
    day = (loan.due_on + timedelta(days=2)).isoformat()
    assert said_by("charge_overdue", "--today", day) == said_by("charge_overdue", "--today", day)
    assert owed_cents(loan.member) == 40


def test_what_came_back_is_not_charged() -> None:
    loan = lend(a_member().card, a_copy().barcode, TODAY)
    give_back(loan.copy.barcode, TODAY)
    assert said_by("charge_overdue", "--today", "2027-01-01") == "0 fines, 0 cards blocked"


def test_a_day_that_is_none_is_refused() -> None:
    with pytest.raises(CommandError, match="write it as 2026-03-31"):
        call_command("charge_overdue", "--today", "tomorrow")
