"""`manage.py import_works FILE`: editions from a CSV file with the columns isbn, title, author, publisher, year, language."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from catalogue.isbn import normalised
from catalogue.models import Author, Contribution, Edition, Language, Publisher, Work

COLUMNS = ("isbn", "title", "author", "publisher", "year", "language")


class Command(BaseCommand):
    """All lines or none."""

    help = "Import editions from a CSV file; all of its lines or none."

    def add_arguments(self, parser: CommandParser) -> None:
        """The file."""
        parser.add_argument("file", type=Path)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Imports, or says which line is wrong."""
        new = 0
        try:
            with options["file"].open(newline="", encoding="utf-8") as lines, transaction.atomic():
                reader = csv.DictReader(lines)
                missing = set(COLUMNS) - set(reader.fieldnames or ())
                if missing:
                    raise CommandError(f"the file has no column {', '.join(sorted(missing))}")
                for row in reader:
                    try:
                        new += self._import(row)
                    except (ValidationError, ValueError, Language.DoesNotExist) as error:
                        said = error.messages[0] if isinstance(error, ValidationError) else str(error)
                        raise CommandError(f"line {reader.line_num}: {said}") from error
        except OSError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{new} editions imported")

    def _import(self, row: dict[str, str]) -> bool:
        isbn = normalised(row["isbn"])
        if Edition.objects.filter(isbn=isbn).exists():
            return False
        language = Language.objects.get(code=row["language"])
        author, _ = Author.objects.get_or_create(name=row["author"], born=None)
        work = Work.objects.filter(title=row["title"], contributions__author=author).first()
        if work is None:
            work = Work.objects.create(title=row["title"], language=language)
            Contribution.objects.create(work=work, author=author, position=1)
        publisher, _ = Publisher.objects.get_or_create(name=row["publisher"])
        Edition.objects.create(work=work, publisher=publisher, isbn=isbn, year=int(row["year"]))
        return True
