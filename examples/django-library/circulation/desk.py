"""What happens at the desk: lending, giving back, renewing."""

from __future__ import annotations

from datetime import date, timedelta

from django.db import transaction

from catalogue.counting import recount_copies
from catalogue.models import Copy
from circulation.calendar import next_open_day
from circulation.errors import Refused
from circulation.fines import charge, owed_cents
from circulation.holds import set_aside_for_next
from circulation.models import Hold, Loan, Member, Renewal
from journal.recording import record

MAX_OWED_CENTS = 1000


@transaction.atomic
def lend(card: str, barcode: str, today: date) -> Loan:
    """Lends the copy; raises `Refused` with the reason. Of two desks that lend the same copy at once one is refused."""
    member = Member.objects.select_for_update().select_related("category").get(card=card)
    copy = Copy.objects.select_for_update().select_related("edition", "shelf__branch").get(barcode=barcode)
    _check_member(member, today)
    hold = Hold.objects.filter(copy=copy, is_over=False).first()
    if copy.state == Copy.State.RESERVED and (hold is None or hold.member_id != member.pk):
        raise Refused(f"{barcode} is set aside for somebody else")
    if copy.state not in (Copy.State.AVAILABLE, Copy.State.RESERVED):
        raise Refused(f"{barcode} is {copy.get_state_display().lower()}")
    due = next_open_day(today + timedelta(days=member.category.loan_days), copy.shelf.branch)
    loan = Loan.objects.create(copy=copy, member=member, lent_on=today, due_on=due)
    if hold is not None:
        hold.is_over = True
        hold.save(update_fields=["is_over"])
    copy.state = Copy.State.ON_LOAN
    copy.save(update_fields=["state"])
    recount_copies(copy.edition)
    record("lent", member_card=card, barcode=barcode, due=due.isoformat())
    return loan


@transaction.atomic
def give_back(barcode: str, today: date) -> Loan:
    """Takes the copy back, charges a fine if it is late and sets the copy aside for whoever waits first."""
    loan = (
        Loan.objects.select_for_update()
        .select_related("member__category", "copy__shelf__branch", "copy__edition")
        .filter(copy__barcode=barcode, returned_on__isnull=True)
        .order_by("pk")
        .first()
    )
    if loan is None:
        raise Refused(f"{barcode} is not on loan")
    loan.returned_on = today
    loan.save(update_fields=["returned_on"])
    charge(loan, today)
    loan.copy.state = Copy.State.AVAILABLE
    loan.copy.save(update_fields=["state"])
    set_aside_for_next(loan.copy)
    recount_copies(loan.copy.edition)
    record("returned", member_card=loan.member.card, barcode=barcode)
    return loan


@transaction.atomic
def renew(loan: Loan, today: date) -> Loan:
    """Makes the loan longer, from today; raises `Refused` when somebody waits or it was renewed too often."""
    loan = (
        Loan.objects.select_for_update()
        .select_related("member__category", "copy__shelf__branch", "copy__edition")
        .get(pk=loan.pk)
    )
    if loan.returned_on is not None:
        raise Refused("it has been given back")
    if loan.renewals.count() >= loan.member.category.max_renewals:
        raise Refused("it cannot be renewed again")
    if Hold.objects.filter(work=loan.copy.edition.work_id, is_over=False, copy__isnull=True).exists():
        raise Refused("somebody waits for it")
    Renewal.objects.create(loan=loan, on=today, due_before=loan.due_on)
    loan.due_on = next_open_day(today + timedelta(days=loan.member.category.loan_days), loan.copy.shelf.branch)
    loan.save(update_fields=["due_on"])
    record("renewed", member_card=loan.member.card, barcode=loan.copy.barcode, due=loan.due_on.isoformat())
    return loan


def _check_member(member: Member, today: date) -> None:
    if member.blocked_until is not None and member.blocked_until >= today:
        raise Refused(f"the card is blocked until {member.blocked_until}")
    if member.loans.filter(returned_on__isnull=True).count() >= member.category.max_loans:
        raise Refused(f"no more than {member.category.max_loans} loans at a time")
    if owed_cents(member) > MAX_OWED_CENTS:
        raise Refused("there are fines to pay first")
