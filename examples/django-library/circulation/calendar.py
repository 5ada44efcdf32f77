"""Days on which the library is open."""

from __future__ import annotations

from datetime import date, timedelta

from django.db.models import Q

from catalogue.models import Branch
from circulation.models import ClosedDay


def next_open_day(day: date, branch: Branch | None) -> date:
    """The day itself, or the first one after it on which the branch is open."""
    closed = _closed(branch, day, day + timedelta(days=60))
    while day in closed:
        day += timedelta(days=1)
    return day


def open_days_between(after: date, until: date, branch: Branch | None) -> int:
    """How many open days there are after the first and up to the second."""
    days = (until - after).days
    closed = _closed(branch, after + timedelta(days=1), until)
    return max(0, days - len(closed))


def _closed(branch: Branch | None, first: date, last: date) -> set[date]:
    here = Q(branch__isnull=True) | Q(branch=branch) if branch is not None else Q(branch__isnull=True)
    return set(ClosedDay.objects.filter(here, day__range=(first, last)).values_list("day", flat=True))
