"""Django's configuration of the app."""

from django.apps import AppConfig


class CirculationConfig(AppConfig):
    """The app circulation."""

    name = "circulation"
    default_auto_field = "django.db.models.BigAutoField"
