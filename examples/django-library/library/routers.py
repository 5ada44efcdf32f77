"""Sends the journal to its own database and everything else to the default one."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

JOURNAL_APP = "journal"


class JournalRouter:
    """Reads and writes of the journal go to `audit`; only its tables are there."""

    def db_for_read(self, model: type[Model], **_hints: Any) -> str | None:
        """`audit` for the journal."""
        return "audit" if model._meta.app_label == JOURNAL_APP else None

    def db_for_write(self, model: type[Model], **_hints: Any) -> str | None:
        """`audit` for the journal."""
        return "audit" if model._meta.app_label == JOURNAL_APP else None

    def allow_relation(self, one: Model, other: Model, **_hints: Any) -> bool | None:
        """No foreign key leaves a database."""
        return (one._meta.app_label == JOURNAL_APP) == (other._meta.app_label == JOURNAL_APP)

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        """The journal's tables on `audit`, all others on `default`; nothing is migrated on the replica."""
        if db == "audit":
            return app_label == JOURNAL_APP
        return db == "default" and app_label != JOURNAL_APP
