"""The table."""

from django.db import models


class Task(models.Model):
    """A task."""

    body = models.TextField(unique=True)

    def __str__(self) -> str:
        return self.body
