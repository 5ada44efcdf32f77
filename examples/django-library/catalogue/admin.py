"""The catalogue for librarians."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from catalogue.models import Author, Branch, Contribution, Copy, Edition, Publisher, Shelf, Subject, Work


class Contributions(admin.TabularInline):  # type: ignore[type-arg]  # generic only for the type checker
    """Who wrote it, on the work's page."""

    model = Contribution
    extra = 0


@admin.register(Work)
class WorkAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only for the type checker
    """Works, found by title."""

    inlines = (Contributions,)
    search_fields = ("title",)
    list_filter = ("language",)


@admin.action(description="Withdraw the copies that are on the shelf")
def withdraw(_admin: object, _request: HttpRequest, copies: QuerySet[Copy]) -> None:
    """A copy on loan stays as it is."""
    copies.filter(state=Copy.State.AVAILABLE).update(state=Copy.State.WITHDRAWN)


@admin.register(Copy)
class CopyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only for the type checker
    """Copies, and taking them out of the collection."""

    list_display = ("barcode", "state")
    list_filter = ("state",)
    actions = (withdraw,)


admin.site.register([Author, Branch, Edition, Publisher, Shelf, Subject])
