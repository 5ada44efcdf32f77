"""Works, the editions they appeared in, the copies on the shelves."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from catalogue.isbn import validate_isbn13


class Language(models.Model):
    """A language, by its ISO 639-1 code. The migrations bring those we know."""

    code = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=60, unique=True)

    def __str__(self) -> str:
        return self.name


class Subject(models.Model):
    """A place in the classification; subjects form a tree."""

    notation = models.CharField(max_length=10, unique=True)
    name = models.CharField(max_length=120)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")

    class Meta:
        ordering = ("notation",)
        constraints = (models.CheckConstraint(name="subject_not_its_own_parent", condition=~Q(parent=F("id"))),)

    def __str__(self) -> str:
        return f"{self.notation} {self.name}"


class Author(models.Model):
    """Somebody who wrote something, under the name it is filed by."""

    name = models.CharField(max_length=200)
    born = models.IntegerField(null=True, blank=True)
    died = models.IntegerField(null=True, blank=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(fields=("name", "born"), name="author_once", nulls_distinct=False),
            models.CheckConstraint(name="author_died_after_birth", condition=Q(died__isnull=True) | Q(died__gte=F("born"))),
        )

    def __str__(self) -> str:
        return self.name


class Publisher(models.Model):
    """A house that publishes."""

    name = models.CharField(max_length=200, unique=True)
    city = models.CharField(max_length=100, blank=True)

    def __str__(self) -> str:
        return self.name


class Work(models.Model):
    """What was written, whatever the edition."""

    title = models.CharField(max_length=300)
    language = models.ForeignKey(Language, on_delete=models.PROTECT, related_name="works")
    first_published = models.IntegerField(null=True, blank=True, validators=[MinValueValidator(-3000), MaxValueValidator(2100)])
    subjects = models.ManyToManyField(Subject, blank=True, related_name="works")
    # Kept by a trigger; see migration 0003.
    title_key = models.CharField(max_length=300, editable=False, default="", db_index=True)

    class Meta:
        ordering = ("title", "id")

    def __str__(self) -> str:
        return self.title


class Contribution(models.Model):
    """Who did what for a work, in the order of the title page."""

    class Role(models.TextChoices):
        AUTHOR = "author"
        EDITOR = "editor"
        TRANSLATOR = "translator"

    work = models.ForeignKey(Work, on_delete=models.CASCADE, related_name="contributions")
    author = models.ForeignKey(Author, on_delete=models.PROTECT, related_name="contributions")
    role = models.CharField(max_length=10, choices=Role, default=Role.AUTHOR)
    position = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ("position",)
        constraints = (
            models.UniqueConstraint(fields=("work", "author", "role"), name="contribution_once"),
            # Checked at commit, so that two contributors can change places in one transaction.
            models.UniqueConstraint(
                fields=("work", "position"), name="contribution_position", deferrable=models.Deferrable.DEFERRED
            ),
        )


class Edition(models.Model):
    """One appearance of a work, with its ISBN."""

    work = models.ForeignKey(Work, on_delete=models.PROTECT, related_name="editions")
    publisher = models.ForeignKey(Publisher, on_delete=models.PROTECT, related_name="editions")
    isbn = models.CharField(max_length=13, unique=True, validators=[validate_isbn13])
    year = models.IntegerField()
    pages = models.PositiveIntegerField(null=True, blank=True)
    # Kept by `catalogue.counting.recount_copies`; a trigger would hide it.
    copies_available = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        constraints = (models.CheckConstraint(name="edition_has_pages", condition=Q(pages__isnull=True) | Q(pages__gt=0)),)


class Branch(models.Model):
    """A house of the library."""

    code = models.SlugField(max_length=10, unique=True)
    name = models.CharField(max_length=100)
    is_open = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.name


class Shelf(models.Model):
    """Where copies stand within a branch."""

    branch = models.ForeignKey(Branch, on_delete=models.PROTECT, related_name="shelves")
    label = models.CharField(max_length=20)
    capacity = models.PositiveIntegerField(default=100)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("branch", "label"), name="shelf_once_in_branch"),)


class Copy(models.Model):
    """A book that one can hold in the hand."""

    class State(models.TextChoices):
        AVAILABLE = "available"
        ON_LOAN = "on_loan"
        RESERVED = "reserved"
        LOST = "lost"
        WITHDRAWN = "withdrawn"

    edition = models.ForeignKey(Edition, on_delete=models.PROTECT, related_name="copies")
    shelf = models.ForeignKey(Shelf, on_delete=models.PROTECT, related_name="copies")
    barcode = models.CharField(max_length=20, unique=True)
    state = models.CharField(max_length=10, choices=State, default=State.AVAILABLE)

    class Meta:
        indexes = (models.Index(fields=("edition", "state"), name="copy_edition_state"),)

    def __str__(self) -> str:
        return self.barcode
