"""What clerks and members do over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from catalogue.models import Copy, Work
from circulation import desk, holds
from circulation.errors import Refused
from circulation.fines import owed_cents
from circulation.models import Member

View = Callable[..., JsonResponse]


def says_no(view: View) -> View:
    """What the desk refuses is a 409 with its reason."""

    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> JsonResponse:
        try:
            return view(request, *args, **kwargs)
        except Refused as error:
            return JsonResponse({"error": str(error)}, status=409)

    return answered


@require_POST
@permission_required("circulation.add_loan", raise_exception=True)
@says_no
def lend(request: HttpRequest) -> JsonResponse:
    """A clerk lends `barcode` to `card`."""
    member = get_object_or_404(Member, card=request.POST.get("card", ""))
    copy = get_object_or_404(Copy, barcode=request.POST.get("barcode", ""))
    loan = desk.lend(member.card, copy.barcode, timezone.localdate())
    return JsonResponse({"due": loan.due_on.isoformat()}, status=201)


@require_POST
@permission_required("circulation.change_loan", raise_exception=True)
@says_no
def give_back(request: HttpRequest) -> JsonResponse:
    """A clerk takes `barcode` back."""
    loan = desk.give_back(request.POST.get("barcode", ""), timezone.localdate())
    return JsonResponse({"owed_cents": owed_cents(loan.member)})


@require_POST
@login_required
@says_no
def hold(request: HttpRequest, work: int) -> JsonResponse:
    """The member who is logged in queues for a work."""
    placed = holds.place_hold(get_object_or_404(Member, user=request.user), get_object_or_404(Work, pk=work))
    return JsonResponse({"place": holds.place_in_line(placed)}, status=201)


@require_GET
@login_required
def mine(request: HttpRequest) -> JsonResponse:
    """What the member who is logged in has at home."""
    member = get_object_or_404(Member, user=request.user)
    loans = member.loans.filter(returned_on__isnull=True).select_related("copy__edition__work").order_by("due_on")
    listed = [{"title": loan.copy.edition.work.title, "due": loan.due_on.isoformat()} for loan in loans]
    return JsonResponse({"loans": listed, "owed_cents": owed_cents(member)})
