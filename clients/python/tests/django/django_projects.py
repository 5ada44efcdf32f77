"""A small Django project as a user has it: two databases, a mirror, a router, migrations with data, and no word of pgdibs."""

from __future__ import annotations

import pytest
from projects import Daemon, Project, Ran, eventually

PLUGINS = ["-p", "xdist", "-p", "pytest_django.plugin", "-p", "pgdibs.pytest_plugin"]

# The databases of the settings cannot be reached: whoever still goes there fails.
SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "notes", "trail"]
def entry(name, **test):
    nowhere = {"HOST": "127.0.0.1", "PORT": "1", "USER": "dev"}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **nowhere, "TEST": test}
DATABASES = {"default": entry("dev"), "audit": entry("dev_audit"), "replica": entry("dev", MIRROR="default")}
DATABASE_ROUTERS = ["trail.router.Router"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""
ROUTER = """
class Router:
    def db_for_read(self, model, **hints):
        return "audit" if model._meta.app_label == "trail" else None
    db_for_write = db_for_read
    def allow_migrate(self, db, app_label, **hints):
        return (app_label == "trail") == (db == "audit") and db != "replica"
"""
MODEL = """
from django.db import models
class {model}(models.Model):
    body = models.TextField()
"""
TABLE = """
from django.db import migrations, models
class Migration(migrations.Migration):
    initial = True
    fields = [("id", models.BigAutoField(primary_key=True)), ("body", models.TextField())]
    operations = [migrations.CreateModel("{model}", fields)]
"""
# Each build leaves a line in builds.txt, so that the tests can count them.
DATA = """
import pathlib
from django.db import migrations
def fill(apps, schema_editor):
    alias = schema_editor.connection.alias
    if alias == "{alias}":
        apps.get_model("{app}", "{model}").objects.using(alias).create(body="from the migration")
        with pathlib.Path("builds.txt").open("a") as lines:
            lines.write(alias + "\\n")
class Migration(migrations.Migration):
    dependencies = [("{app}", "0001_initial")]
    operations = [migrations.RunPython(fill)]
"""


class DjangoProject(Project):
    """The project of `Project`, with Django in it; `manage.py` is left out where nothing needs it."""

    def __init__(self, pytester: pytest.Pytester, daemon: Daemon, pool: str) -> None:
        super().__init__(pytester, daemon, pool)
        self.pools = [pool, f"{pool}_audit"]
        self.settings = {
            "pgdibs_pool": pool,
            "pgdibs_fingerprint": "**/migrations/*.py",
            "DJANGO_SETTINGS_MODULE": "settings",
            "pythonpath": ".",
        }
        self.file("settings.py", SETTINGS)
        for app, model, alias in (("notes", "Note", "default"), ("trail", "Entry", "audit")):
            self.file(f"{app}/__init__.py", "")
            self.file(f"{app}/models.py", MODEL.format(model=model))
            self.file(f"{app}/migrations/__init__.py", "")
            self.file(f"{app}/migrations/0001_initial.py", TABLE.format(model=model))
            self.file(f"{app}/migrations/0002_data.py", DATA.format(app=app, model=model, alias=alias))
        self.file("trail/router.py", ROUTER)

    def run_django(self, *arguments: str) -> Ran:
        """Run its pytest with pytest-django."""
        return self.run(*arguments, plugins=PLUGINS)

    @property
    def builds(self) -> list[str]:
        """The aliases whose template was built, once for each build."""
        return sorted(self.text("builds.txt").split())

    def assert_all_is_given_back(self) -> None:
        """No lease of any of its pools now, and soon no database that is in use or on its way out."""
        for pool in self.pools:
            assert self.client.leases(pool=pool) == []

            def is_quiet(pool: str = pool) -> bool:
                counts = self.client.call("GET", f"/v1/pools/{pool}")["counts"]
                return all(counts[state] == 0 for state in ("leased", "retiring", "creating", "blocked"))

            eventually(is_quiet)
