"""Entries about what happened. They name things of the other database by text: no foreign key crosses over."""

from __future__ import annotations

from django.db import models


class Kind(models.Model):
    """What can happen, and for how many days entries about it are kept. The migrations bring them."""

    code = models.CharField(max_length=30, primary_key=True)
    keep_days = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.code


class Entry(models.Model):
    """One thing that happened."""

    kind = models.ForeignKey(Kind, on_delete=models.PROTECT, related_name="entries")
    at = models.DateTimeField(auto_now_add=True)
    member_card = models.CharField(max_length=20, blank=True, db_index=True)
    barcode = models.CharField(max_length=20, blank=True)
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ("id",)


class Export(models.Model):
    """A stretch of entries that was handed to the statistics office."""

    first = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="+")
    last = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="+")
    count = models.PositiveIntegerField()
