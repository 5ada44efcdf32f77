"""Waiting for a work, in order of arrival."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from catalogue.models import Copy, Work
from circulation.errors import Refused
from circulation.models import Hold, Member
from journal.recording import record


@transaction.atomic
def place_hold(member: Member, work: Work) -> Hold:
    """Queues the member for the work; raises `Refused` when a copy stands on a shelf or the member waits already."""
    if Copy.objects.filter(edition__work=work, state=Copy.State.AVAILABLE).exists():
        raise Refused("there is a copy on the shelf")
    try:
        with transaction.atomic():
            hold = Hold.objects.create(member=member, work=work)
    except IntegrityError as error:
        raise Refused("the member waits for it already") from error
    record("held", member_card=member.card, work=work.title)
    return hold


@transaction.atomic
def cancel(hold: Hold) -> None:
    """Gives up the place; a copy that was set aside goes to the next in line."""
    copy = hold.copy
    hold.is_over, hold.copy = True, None
    hold.save(update_fields=["is_over", "copy"])
    if copy is not None:
        copy.state = Copy.State.AVAILABLE
        copy.save(update_fields=["state"])
        set_aside_for_next(copy)


def set_aside_for_next(copy: Copy) -> Hold | None:
    """Reserves an available copy for the first in line. Two desks never pick the same place in the queue."""
    waiting = Hold.objects.select_for_update(skip_locked=True).filter(work=copy.edition.work_id, is_over=False, copy__isnull=True)
    first = waiting.order_by("id").first()
    if first is None:
        return None
    first.copy = copy
    first.save(update_fields=["copy"])
    copy.state = Copy.State.RESERVED
    copy.save(update_fields=["state"])
    record("set_aside", member_card=first.member.card, barcode=copy.barcode)
    return first


def place_in_line(hold: Hold) -> int:
    """1 for the first."""
    return Hold.objects.filter(work=hold.work_id, is_over=False, copy__isnull=True, pk__lte=hold.pk).count()
