"""The tables of the catalogue. Made by `manage.py makemigrations`."""

import django.core.validators
import django.db.models.constraints
import django.db.models.deletion
from django.db import migrations, models

import catalogue.isbn


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Branch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("code", models.SlugField(max_length=10, unique=True)),
                ("name", models.CharField(max_length=100)),
                ("is_open", models.BooleanField(default=True)),
            ],
        ),
        migrations.CreateModel(
            name="Language",
            fields=[
                ("code", models.CharField(max_length=2, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=60, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Publisher",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=200, unique=True)),
                ("city", models.CharField(blank=True, max_length=100)),
            ],
        ),
        migrations.CreateModel(
            name="Author",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=200)),
                ("born", models.IntegerField(blank=True, null=True)),
                ("died", models.IntegerField(blank=True, null=True)),
            ],
            options={
                "ordering": ("name",),
                "constraints": [
                    models.UniqueConstraint(fields=("name", "born"), name="author_once", nulls_distinct=False),
                    models.CheckConstraint(
                        condition=models.Q(("died__isnull", True), ("died__gte", models.F("born")), _connector="OR"),
                        name="author_died_after_birth",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Edition",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("isbn", models.CharField(max_length=13, unique=True, validators=[catalogue.isbn.validate_isbn13])),
                ("year", models.IntegerField()),
                ("pages", models.PositiveIntegerField(blank=True, null=True)),
                ("copies_available", models.PositiveIntegerField(default=0, editable=False)),
                (
                    "publisher",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="editions", to="catalogue.publisher"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Shelf",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("label", models.CharField(max_length=20)),
                ("capacity", models.PositiveIntegerField(default=100)),
                (
                    "branch",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="shelves", to="catalogue.branch"),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Copy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("barcode", models.CharField(max_length=20, unique=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("available", "Available"),
                            ("on_loan", "On Loan"),
                            ("reserved", "Reserved"),
                            ("lost", "Lost"),
                            ("withdrawn", "Withdrawn"),
                        ],
                        default="available",
                        max_length=10,
                    ),
                ),
                (
                    "edition",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="copies", to="catalogue.edition"),
                ),
                (
                    "shelf",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="copies", to="catalogue.shelf"),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Subject",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("notation", models.CharField(max_length=10, unique=True)),
                ("name", models.CharField(max_length=120)),
                (
                    "parent",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="children",
                        to="catalogue.subject",
                    ),
                ),
            ],
            options={
                "ordering": ("notation",),
            },
        ),
        migrations.CreateModel(
            name="Work",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=300)),
                (
                    "first_published",
                    models.IntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(-3000),
                            django.core.validators.MaxValueValidator(2100),
                        ],
                    ),
                ),
                ("title_key", models.CharField(db_index=True, default="", editable=False, max_length=300)),
                (
                    "language",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="works", to="catalogue.language"),
                ),
                ("subjects", models.ManyToManyField(blank=True, related_name="works", to="catalogue.subject")),
            ],
            options={
                "ordering": ("title", "id"),
            },
        ),
        migrations.AddField(
            model_name="edition",
            name="work",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="editions", to="catalogue.work"),
        ),
        migrations.CreateModel(
            name="Contribution",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "role",
                    models.CharField(
                        choices=[("author", "Author"), ("editor", "Editor"), ("translator", "Translator")],
                        default="author",
                        max_length=10,
                    ),
                ),
                ("position", models.PositiveSmallIntegerField()),
                (
                    "author",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="contributions", to="catalogue.author"
                    ),
                ),
                (
                    "work",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="contributions", to="catalogue.work"
                    ),
                ),
            ],
            options={
                "ordering": ("position",),
            },
        ),
        migrations.AddConstraint(
            model_name="shelf",
            constraint=models.UniqueConstraint(fields=("branch", "label"), name="shelf_once_in_branch"),
        ),
        migrations.AddIndex(
            model_name="copy",
            index=models.Index(fields=["edition", "state"], name="copy_edition_state"),
        ),
        migrations.AddConstraint(
            model_name="subject",
            constraint=models.CheckConstraint(
                condition=models.Q(("parent", models.F("id")), _negated=True), name="subject_not_its_own_parent"
            ),
        ),
        migrations.AddConstraint(
            model_name="edition",
            constraint=models.CheckConstraint(
                condition=models.Q(("pages__isnull", True), ("pages__gt", 0), _connector="OR"), name="edition_has_pages"
            ),
        ),
        migrations.AddConstraint(
            model_name="contribution",
            constraint=models.UniqueConstraint(fields=("work", "author", "role"), name="contribution_once"),
        ),
        migrations.AddConstraint(
            model_name="contribution",
            constraint=models.UniqueConstraint(
                deferrable=django.db.models.constraints.Deferrable["DEFERRED"],
                fields=("work", "position"),
                name="contribution_position",
            ),
        ),
    ]
