"""Numbers about the catalogue that are kept or computed."""

from __future__ import annotations

from django.db.models import Count, Q

from catalogue.models import Branch, Copy, Edition, Subject


def recount_copies(edition: Edition) -> int:
    """Writes down how many copies of the edition can be lent, and returns it."""
    count = edition.copies.filter(state=Copy.State.AVAILABLE).count()
    Edition.objects.filter(pk=edition.pk).update(copies_available=count)
    edition.copies_available = count
    return count


def holdings_by_branch() -> dict[str, int]:
    """How many copies each branch has that are not gone; branches without any are there with 0."""
    gone = [Copy.State.LOST, Copy.State.WITHDRAWN]
    counted = Branch.objects.annotate(held=Count("shelves__copies", filter=~Q(shelves__copies__state__in=gone)))
    return dict(counted.order_by("code").values_list("code", "held"))


def below(subject: Subject) -> set[str]:
    """The notations of the subject and of everything beneath it."""
    found = {subject.notation}
    level = [subject.pk]
    while level:
        children = list(Subject.objects.filter(parent_id__in=level).values_list("pk", "notation"))
        found.update(notation for _pk, notation in children)
        level = [pk for pk, _notation in children]
    return found
