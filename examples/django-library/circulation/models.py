"""Members, what they have at home, what they wait for, what they owe."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from catalogue.models import Branch, Copy, Work


class Category(models.Model):
    """What a kind of member may do. The migrations bring those we have."""

    code = models.SlugField(max_length=10, primary_key=True)
    loan_days = models.PositiveIntegerField()
    max_loans = models.PositiveIntegerField()
    max_renewals = models.PositiveIntegerField()
    fine_cents_per_day = models.PositiveIntegerField()
    fine_cents_at_most = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.code


class Member(models.Model):
    """Somebody with a card."""

    card = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=200)
    category = models.ForeignKey(Category, on_delete=models.PROTECT, related_name="members")
    home = models.ForeignKey(Branch, null=True, blank=True, on_delete=models.SET_NULL, related_name="members")
    user = models.OneToOneField(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="member")
    blocked_until = models.DateField(null=True, blank=True)

    def __str__(self) -> str:
        return self.card


class ClosedDay(models.Model):
    """A day on which nothing falls due and no fine grows; without a branch it holds for all."""

    day = models.DateField()
    branch = models.ForeignKey(Branch, null=True, blank=True, on_delete=models.CASCADE, related_name="closed_days")

    class Meta:
        constraints = (models.UniqueConstraint(fields=("day", "branch"), name="closed_once", nulls_distinct=False),)


class Loan(models.Model):
    """A copy at somebody's home."""

    copy = models.ForeignKey(Copy, on_delete=models.PROTECT, related_name="loans")
    member = models.ForeignKey(Member, on_delete=models.PROTECT, related_name="loans")
    lent_on = models.DateField()
    due_on = models.DateField()
    returned_on = models.DateField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("copy",), condition=Q(returned_on__isnull=True), name="copy_lent_once"),
            models.CheckConstraint(name="loan_due_after_lent", condition=Q(due_on__gte=F("lent_on"))),
            models.CheckConstraint(
                name="loan_returned_after_lent", condition=Q(returned_on__isnull=True) | Q(returned_on__gte=F("lent_on"))
            ),
        )


class Renewal(models.Model):
    """A loan made longer."""

    loan = models.ForeignKey(Loan, on_delete=models.CASCADE, related_name="renewals")
    on = models.DateField()
    due_before = models.DateField()


class Hold(models.Model):
    """Somebody waits for a work, in order of arrival."""

    work = models.ForeignKey(Work, on_delete=models.CASCADE, related_name="holds")
    member = models.ForeignKey(Member, on_delete=models.CASCADE, related_name="holds")
    placed_at = models.DateTimeField(auto_now_add=True)
    copy = models.ForeignKey(Copy, null=True, blank=True, on_delete=models.SET_NULL, related_name="holds")
    is_over = models.BooleanField(default=False)

    class Meta:
        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=("work", "member"), condition=Q(is_over=False), name="hold_once"),
            models.UniqueConstraint(fields=("copy",), condition=Q(is_over=False), name="copy_set_aside_once"),
        )


class Fine(models.Model):
    """What a late return costs."""

    loan = models.OneToOneField(Loan, on_delete=models.PROTECT, related_name="fine")
    cents = models.PositiveIntegerField()
    waived_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        permissions = (("waive_fine", "Can waive a fine"),)


class Payment(models.Model):
    """Money that came in for a fine."""

    fine = models.ForeignKey(Fine, on_delete=models.PROTECT, related_name="payments")
    cents = models.IntegerField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = (models.CheckConstraint(name="payment_of_something", condition=Q(cents__gt=0)),)
