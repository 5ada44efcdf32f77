"""The categories of members, the days that are always closed, and the clerks' group."""

from datetime import date

from django.db import migrations

# code, days, loans, renewals, cents a day, at most
CATEGORIES = [("adult", 28, 10, 2, 20, 1000), ("child", 28, 20, 3, 5, 200), ("staff", 90, 50, 5, 0, 0)]
CLOSED = [date(2026, 1, 1), date(2026, 12, 25), date(2026, 12, 26)]


def fill(apps, schema_editor):
    """On the default database only."""
    alias = schema_editor.connection.alias
    if alias != "default":
        return
    category = apps.get_model("circulation", "Category")
    for code, days, loans, renewals, cents, most in CATEGORIES:
        category.objects.using(alias).create(
            code=code,
            loan_days=days,
            max_loans=loans,
            max_renewals=renewals,
            fine_cents_per_day=cents,
            fine_cents_at_most=most,
        )
    closed = apps.get_model("circulation", "ClosedDay")
    closed.objects.using(alias).bulk_create(closed(day=day) for day in CLOSED)
    apps.get_model("auth", "Group").objects.using(alias).create(name="clerks")


class Migration(migrations.Migration):
    """Data only."""

    dependencies = [("circulation", "0001_initial"), ("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
