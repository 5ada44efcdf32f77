"""The settings. pgdibs changes DATABASES for the tests; this file does not know of it."""

SECRET_KEY = "only-for-the-example"
INSTALLED_APPS = ["tasks"]
ROOT_URLCONF = "config.urls"
ALLOWED_HOSTS = ["testserver", "localhost"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "tasks", "HOST": "localhost"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
