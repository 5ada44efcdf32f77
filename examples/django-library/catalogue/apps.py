"""Django's configuration of the app."""

from django.apps import AppConfig


class CatalogueConfig(AppConfig):
    """The app catalogue."""

    name = "catalogue"
    default_auto_field = "django.db.models.BigAutoField"
