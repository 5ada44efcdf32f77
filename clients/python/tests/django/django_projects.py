"""A small Django project without code for pgdibs: two databases, a mirror, a router, migrations with data."""

from __future__ import annotations

import pytest
from projects import Daemon, Project, Ran, eventually

PLUGINS = ["-p", "xdist", "-p", "pytest_django.plugin", "-p", "pgdibs.pytest_plugin"]

# The databases of the settings are unreachable, so code that connects to them fails.
SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "notes", "trail"]
def entry(name, **test):
    unreachable = {"HOST": "127.0.0.1", "PORT": "1", "USER": "dev"}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **unreachable, "TEST": test}
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
    """A `Project` with Django."""

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
        """The aliases of all builds so far."""
        return sorted(self.text("builds.txt").split())

    def assert_no_leases(self, kept: int = 0) -> None:
        """Assert that its pools soon have no lease, and no database that is leased or retiring."""
        for pool in self.pools:

            def has_no_lease(pool: str = pool) -> bool:
                return self.client.leases(pool=pool) == []

            def is_idle(pool: str = pool) -> bool:
                counts = self.client.call("GET", f"/v1/pools/{pool}")["counts"]
                return all(counts[state] == 0 for state in ("leased", "retiring", "creating", "blocked"))

            eventually(has_no_lease, 20)  # less than the time to live of a lease
            eventually(is_idle)
