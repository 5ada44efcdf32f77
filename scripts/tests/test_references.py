"""The generated pages are what their scripts write now, and have all that they describe."""

from __future__ import annotations

import re
import subprocess
import sys

import http_reference
import log_reference
import plugin_reference

PLUGIN_PAGE = plugin_reference.PAGE.read_text(encoding="utf-8")
SOURCE = plugin_reference.PLUGIN.read_text(encoding="utf-8")


def test_http_page_is_current() -> None:
    text = http_reference.Page(http_reference.read("openapi.json")).text()
    assert http_reference.PAGE.read_text(encoding="utf-8") == text, (
        "docs/http.md is stale: .venv/bin/python scripts/http_reference.py"
    )


def test_http_page_has_all_calls_fields_and_codes() -> None:
    page, document = http_reference.PAGE.read_text(encoding="utf-8"), http_reference.read("openapi.json")
    schemas = document["components"]["schemas"]
    calls = {
        f"### {method.upper()} {path}" for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    assert calls == set(re.findall(r"^### [A-Z]+ /.*$", page, re.MULTILINE))
    fields = {field for name, schema in schemas.items() if name != "Problem" for field in schema.get("properties", ())}
    assert [word for word in fields | set(schemas["Code"]["enum"]) if f"`{word}`" not in page] == []


def test_logging_page_is_current() -> None:
    page = log_reference.PAGE.read_text(encoding="utf-8")
    assert log_reference.page(page) == page, "docs/logging.md is stale: python3 scripts/log_reference.py"


def test_plugin_page_is_current() -> None:
    assert plugin_reference.page(SOURCE, PLUGIN_PAGE) == PLUGIN_PAGE, "stale: python3 scripts/plugin_reference.py"


def test_plugin_page_has_all_settings_of_pytest() -> None:
    command = [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout
    names = set(re.findall(r"(?:--pgdibs-|\bpgdibs_)[a-z_]+", output))
    assert len(names) > 10
    assert [name for name in sorted(names) if f"`{name}" not in PLUGIN_PAGE] == []
