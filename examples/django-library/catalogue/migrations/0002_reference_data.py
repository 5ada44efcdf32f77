"""The languages, the classification and the main branch, without which nothing can be catalogued."""

from django.db import migrations

LANGUAGES = {
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "la": "Latin",
    "pl": "Polish",
    "tr": "Turkish",
}
SUBJECTS = [
    ("0", "General works", None),
    ("00", "Computing", "0"),
    ("5", "Science", None),
    ("51", "Mathematics", "5"),
    ("512", "Algebra", "51"),
    ("519", "Probability", "51"),
    ("53", "Physics", "5"),
    ("8", "Literature", None),
    ("82", "Literature in English", "8"),
    ("83", "Literature in German", "8"),
    ("9", "History", None),
    ("94", "History of Europe", "9"),
]


def fill(apps, schema_editor):
    """In the order of the classification, so that a subject's parent is there."""
    alias = schema_editor.connection.alias
    if alias != "default":
        return
    language, subject = apps.get_model("catalogue", "Language"), apps.get_model("catalogue", "Subject")
    language.objects.using(alias).bulk_create(language(code=code, name=name) for code, name in LANGUAGES.items())
    made = {}
    for notation, name, parent in SUBJECTS:
        made[notation] = subject.objects.using(alias).create(notation=notation, name=name, parent=made.get(parent))
    branch = apps.get_model("catalogue", "Branch").objects.using(alias).create(code="main", name="Main library")
    apps.get_model("catalogue", "Shelf").objects.using(alias).create(branch=branch, label="A1")


class Migration(migrations.Migration):
    """Data only."""

    dependencies = [("catalogue", "0001_initial")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
