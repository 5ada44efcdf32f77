"""What can happen, and how long entries about it are kept. This runs on `audit` alone."""

from django.db import migrations

KINDS = {"lent": 90, "returned": 90, "renewed": 90, "held": 30, "set_aside": 30, "paid": 3650, "waived": 3650}


def fill(apps, schema_editor):
    """The router has the tables only there."""
    if schema_editor.connection.alias == "audit":
        kind = apps.get_model("journal", "Kind")
        kind.objects.using("audit").bulk_create(kind(code=code, keep_days=days) for code, days in KINDS.items())


class Migration(migrations.Migration):
    """Data only."""

    dependencies = [("journal", "0001_initial")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
