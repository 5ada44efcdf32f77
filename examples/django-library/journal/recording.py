"""Writing the journal, and handing it on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from journal.models import Entry, Export, Kind


def record(kind: str, *, member_card: str = "", barcode: str = "", **detail: Any) -> None:
    """Writes an entry once the transaction on the default database is committed; nothing if it is rolled back."""
    transaction.on_commit(lambda: Entry.objects.create(kind_id=kind, member_card=member_card, barcode=barcode, detail=detail))


def export_new() -> Export | None:
    """Takes everything since the last export; None when there is nothing. Two exports at once never take an entry twice."""
    with transaction.atomic(using="audit"):
        # The kinds' rows serve as the lock: there may be no export yet.
        list(Kind.objects.select_for_update().order_by("code"))
        last = Export.objects.order_by("-id").first()
        entries = list(Entry.objects.filter(pk__gt=last.last_id if last else 0).order_by("id"))
        if not entries:
            return None
        return Export.objects.create(first=entries[0], last=entries[-1], count=len(entries))


def forget_old() -> int:
    """Deletes entries that are older than their kind allows, except exported ones' ends; returns how many."""
    deleted = 0
    with transaction.atomic(using="audit"):
        bound = set(Export.objects.values_list("first_id", flat=True)) | set(Export.objects.values_list("last_id", flat=True))
        for kind in Kind.objects.all():
            limit = timezone.now() - timedelta(days=kind.keep_days)
            deleted += kind.entries.filter(at__lt=limit).exclude(pk__in=bound).delete()[0]
    return deleted
