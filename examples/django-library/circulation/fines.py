"""What late returns cost, and paying for them."""

from __future__ import annotations

from datetime import date

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Sum

from circulation.calendar import open_days_between
from circulation.errors import Refused
from circulation.models import Fine, Loan, Member, Payment
from journal.recording import record


def fine_cents(loan: Loan, on: date) -> int:
    """What the loan would cost if it came back on that day; only open days count, and there is a most."""
    if on <= loan.due_on:
        return 0
    late = open_days_between(loan.due_on, on, loan.copy.shelf.branch)
    category = loan.member.category
    return min(late * category.fine_cents_per_day, category.fine_cents_at_most)


def charge(loan: Loan, on: date) -> Fine | None:
    """Writes down the fine, or makes it what it is by now; None when nothing is due."""
    cents = fine_cents(loan, on)
    if cents == 0:
        return None
    fine, _is_new = Fine.objects.update_or_create(loan=loan, defaults={"cents": cents})
    return fine


def owed_cents(member: Member) -> int:
    """What the member still has to pay; waived fines count nothing."""
    fines = Fine.objects.filter(loan__member=member, waived_by__isnull=True)
    charged = fines.aggregate(total=Sum("cents"))["total"] or 0
    paid = Payment.objects.filter(fine__in=fines).aggregate(total=Sum("cents"))["total"] or 0
    return int(charged - paid)


@transaction.atomic
def pay(fine: Fine, cents: int) -> Payment:
    """Takes money for a fine, never more than is open."""
    locked = Fine.objects.select_for_update(of=("self",)).select_related("loan__member").get(pk=fine.pk)
    paid = locked.payments.aggregate(total=Sum("cents"))["total"] or 0
    still_open = 0 if locked.waived_by_id else locked.cents - paid
    if cents > still_open:
        raise Refused(f"only {still_open} cents are open")
    payment = Payment.objects.create(fine=locked, cents=cents)
    record("paid", member_card=locked.loan.member.card, cents=cents)
    return payment


def waive(fine: Fine, by: User) -> None:
    """Lets the member off; raises `Refused` when the clerk may not."""
    if not by.has_perm("circulation.waive_fine"):
        raise Refused("this takes the right to waive fines")
    fine.waived_by = by
    fine.save(update_fields=["waived_by"])
    record("waived", member_card=fine.loan.member.card, cents=fine.cents)
