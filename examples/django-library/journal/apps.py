"""Django's configuration of the app."""

from django.apps import AppConfig


class JournalConfig(AppConfig):
    """The app journal."""

    name = "journal"
    default_auto_field = "django.db.models.BigAutoField"
