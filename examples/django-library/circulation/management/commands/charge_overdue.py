"""`manage.py charge_overdue`: writes down today's fines of what is overdue, and blocks the cards of the very late."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from circulation.fines import charge
from circulation.models import Loan, Member

BLOCKED_AFTER_DAYS = 60


class Command(BaseCommand):
    """Once a day, from cron."""

    help = "Write down the fines of overdue loans and block cards of members who are very late."

    def add_arguments(self, parser: CommandParser) -> None:
        """`--today` is for reruns of a day that was missed."""
        parser.add_argument("--today", help="as if it were this day, YYYY-MM-DD")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Counts what was done."""
        try:
            today = date.fromisoformat(options["today"]) if options["today"] else timezone.localdate()
        except ValueError as error:
            raise CommandError(f"--today: {options['today']} is not a day; write it as 2026-03-31") from error
        overdue = Loan.objects.filter(returned_on__isnull=True, due_on__lt=today).select_related(
            "member__category", "copy__shelf__branch"
        )
        charged = sum(charge(loan, today) is not None for loan in overdue)
        very_late = overdue.filter(due_on__lt=today - timedelta(days=BLOCKED_AFTER_DAYS)).values("member")
        blocked = Member.objects.filter(pk__in=very_late).update(blocked_until=today + timedelta(days=BLOCKED_AFTER_DAYS))
        self.stdout.write(f"{charged} fines, {blocked} cards blocked")
