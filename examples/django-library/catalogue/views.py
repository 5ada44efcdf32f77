"""The public catalogue as JSON; it reads from the replica."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET

from catalogue.counting import below
from catalogue.isbn import normalised
from catalogue.models import Edition, Subject, Work

PAGE = 20


@require_GET
def works(request: HttpRequest) -> JsonResponse:
    """Works by a part of their title (`q`) and a subject with all beneath it (`subject`), a page at a time."""
    found = Work.objects.using("replica").select_related("language")
    if wanted := request.GET.get("q"):
        found = found.filter(title_key__contains=wanted.lower())
    if notation := request.GET.get("subject"):
        subject = get_object_or_404(Subject, notation=notation)
        found = found.filter(subjects__notation__in=below(subject)).distinct()
    try:
        page = int(request.GET.get("page", "1"))
    except ValueError:
        page = 0
    if page < 1:
        return JsonResponse({"error": "page has to be a number, 1 or more"}, status=400)
    first = (page - 1) * PAGE
    listed = [{"id": work.pk, "title": work.title, "language": work.language.name} for work in found[first : first + PAGE]]
    return JsonResponse({"works": listed, "count": found.count()})


@require_GET
def edition(_request: HttpRequest, isbn: str) -> JsonResponse:
    """One edition, by its ISBN as people write it."""
    try:
        wanted = normalised(isbn)
    except ValidationError as error:
        return JsonResponse({"error": error.messages[0]}, status=400)
    found = get_object_or_404(Edition.objects.using("replica").select_related("work", "publisher"), isbn=wanted)
    return JsonResponse(
        {"isbn": found.isbn, "title": found.work.title, "publisher": found.publisher.name, "available": found.copies_available}
    )
