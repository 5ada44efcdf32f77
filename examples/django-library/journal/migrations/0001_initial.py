"""The tables of the journal. Made by `manage.py makemigrations`."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Entry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(auto_now_add=True)),
                ("member_card", models.CharField(blank=True, db_index=True, max_length=20)),
                ("barcode", models.CharField(blank=True, max_length=20)),
                ("detail", models.JSONField(default=dict)),
            ],
            options={
                "ordering": ("id",),
            },
        ),
        migrations.CreateModel(
            name="Kind",
            fields=[
                ("code", models.CharField(max_length=30, primary_key=True, serialize=False)),
                ("keep_days", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Export",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("count", models.PositiveIntegerField()),
                ("first", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="journal.entry")),
                ("last", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="journal.entry")),
            ],
        ),
        migrations.AddField(
            model_name="entry",
            name="kind",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="entries", to="journal.kind"),
        ),
    ]
