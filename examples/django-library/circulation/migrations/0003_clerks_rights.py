"""What clerks may do. Rights are made after migrations, so this makes the ones it hands out."""

from django.db import migrations

RIGHTS = {"loan": ("add_loan", "change_loan"), "fine": ("waive_fine",)}


def fill(apps, schema_editor):
    """The same rows that Django would make; it leaves those alone that are there."""
    alias = schema_editor.connection.alias
    if alias != "default":
        return
    content_type = apps.get_model("contenttypes", "ContentType").objects.using(alias)
    permission = apps.get_model("auth", "Permission").objects.using(alias)
    clerks = apps.get_model("auth", "Group").objects.using(alias).get(name="clerks")
    for model, codenames in RIGHTS.items():
        kind, _ = content_type.get_or_create(app_label="circulation", model=model)
        for codename in codenames:
            name = f"Can {codename.split('_')[0]} {'a fine' if model == 'fine' else model}"
            right, _ = permission.get_or_create(content_type=kind, codename=codename, defaults={"name": name})
            clerks.permissions.add(right)


class Migration(migrations.Migration):
    """Data only."""

    dependencies = [("circulation", "0002_categories"), ("contenttypes", "0002_remove_content_type_name")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
