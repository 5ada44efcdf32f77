"""The settings. The databases are those of PGHOST, PGPORT, PGUSER and PGPASSWORD, as libpq's programs read them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("LIBRARY_SECRET_KEY", "only-for-tests-and-the-example")
DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "catalogue",
    "circulation",
    "journal",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "library.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def database(name: str, **test: str) -> dict[str, Any]:
    """One alias; `test` says what it is called, or which alias it follows, in tests."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "HOST": os.environ.get("PGHOST", ""),
        "PORT": os.environ.get("PGPORT", ""),
        "USER": os.environ.get("PGUSER", ""),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "TEST": test,
    }


DATABASES = {
    "default": database("library", NAME="library_test"),
    # What happened is kept on another database, which only ever grows.
    "audit": database("library_audit", NAME="library_test_audit"),
    # A read-only follower of the default database; in tests there is none, so it is the default one.
    "replica": database("library", MIRROR="default"),
}
DATABASE_ROUTERS = ["library.routers.JournalRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast; nothing here is secret
LOGIN_URL = "admin:login"
USE_TZ = True
TIME_ZONE = "UTC"

# What the rules of lending are; circulation reads them.
LIBRARY_CURRENCY = "EUR"
