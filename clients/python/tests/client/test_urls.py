"""URLs for applications: drivers, queries, and passwords with special characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

import pgdibs
from pgdibs.templates import fingerprint_of
from pgdibs.urls import retarget

PASSWORD = "p@ss:w/o?r#d%20&=+ é"
LEASED = f"postgresql://leased:{quote(PASSWORD, safe='')}@127.0.0.1:5432/app_gw0"


def lease_with(url: str) -> pgdibs.Lease:
    """A lease whose password has special characters."""
    granted: dict[str, Any] = {
        "id": "1",
        "url": url,
        "database": "app_gw0",
        "slot": 0,
        "host": "127.0.0.1",
        "port": 5432,
        "user": "leased",
        "password": PASSWORD,
        "generation": 1,
        "pool": "app",
        "fingerprint": "f",
        "ttl_seconds": 60,
        "renew_after_seconds": 20.0,
    }
    return pgdibs.Lease(pgdibs.Client(), granted, heartbeat=False)


def test_url_for_changes_only_the_scheme() -> None:
    url = lease_with(LEASED).url_for("postgresql+asyncpg")
    assert url == LEASED.replace("postgresql://", "postgresql+asyncpg://")
    assert unquote(urlsplit(url).password or "") == PASSWORD


def test_env_and_django_have_unescaped_password() -> None:
    lease = lease_with(LEASED)
    assert lease.env() == {
        "DATABASE_URL": LEASED,
        "PGHOST": "127.0.0.1",
        "PGPORT": "5432",
        "PGUSER": "leased",
        "PGPASSWORD": PASSWORD,
        "PGDATABASE": "app_gw0",
    }
    entry = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": True}, "NAME": "dev", "TEST": {}}
    entry.update(lease.django())
    assert entry == {
        "ENGINE": "django.db.backends.postgresql",
        "OPTIONS": {"pool": True},
        "TEST": {},
        "NAME": "app_gw0",
        "USER": "leased",
        "PASSWORD": PASSWORD,
        "HOST": "127.0.0.1",
        "PORT": "5432",
    }


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        (None, "postgresql://u:p%40@h:1/d"),
        ("", "postgresql://u:p%40@h:1/d"),
        ("postgres://me:x@prod/live", "postgres://u:p%40@h:1/d"),
        ("postgresql+asyncpg://prod/live", "postgresql+asyncpg://u:p%40@h:1/d"),
        ("postgis://prod/live?sslmode=disable", "postgis://u:p%40@h:1/d?sslmode=disable"),
        ("postgresql+psycopg://prod/live?a=1&b=%20&c", "postgresql+psycopg://u:p%40@h:1/d?a=1&b=%20&c"),
        ("postgresql:///live?host=/run/pg&user=me&application_name=x", "postgresql://u:p%40@h:1/d?application_name=x"),
        ("sqlite:///dev.db?x=1", "postgresql://u:p%40@h:1/d"),
        ("not a url", "postgresql://u:p%40@h:1/d"),
    ],
)
def test_retarget_keeps_driver_and_query_of_existing(existing: str, expected: str) -> None:
    assert retarget(existing, "postgresql://u:p%40@h:1/d") == expected


def test_retarget_prefers_parameters_of_the_lease() -> None:
    leased = "postgresql://u:p@h:1/d?sslmode=require"
    assert retarget("postgresql+x://y/z?sslmode=disable&b=1", leased) == "postgresql+x://u:p@h:1/d?sslmode=require&b=1"


def test_fingerprint_changes_with_content_and_names_only(tmp_path: Path) -> None:
    (tmp_path / "app" / "__pycache__").mkdir(parents=True)
    (tmp_path / "app" / "1.py").write_text("a")
    first = fingerprint_of(tmp_path, ["**/*.py"])
    (tmp_path / "app" / "__pycache__" / "1.py").write_text("compiled")
    assert fingerprint_of(tmp_path, ["app/*.py", "**/*.py"]) == first
    (tmp_path / "app" / "1.py").rename(tmp_path / "app" / "2.py")
    renamed = fingerprint_of(tmp_path, ["**/*.py"])
    (tmp_path / "app" / "2.py").write_text("b")
    assert len({first, renamed, fingerprint_of(tmp_path, ["**/*.py"])}) == 3
    with pytest.raises(ValueError, match=r"`\*\.sql` matches no file below"):
        fingerprint_of(tmp_path, ["**/*.py", "*.sql"])
