"""docs/http.md is the current output of scripts/http_reference.py, and complete."""

from __future__ import annotations

import json
from pathlib import Path

import http_reference

API = http_reference.REPOSITORY / "api"


def test_page_is_current() -> None:
    written = (http_reference.REPOSITORY / http_reference.PAGE).read_text(encoding="utf-8")
    assert written == http_reference.page(API), "docs/http.md is stale: python3 scripts/http_reference.py"


def test_page_has_all_calls_fields_and_codes() -> None:
    page = http_reference.page(API)
    document = json.loads((API / "openapi.json").read_text(encoding="utf-8"))
    for path, methods in document["paths"].items():
        for method in http_reference.METHODS:
            assert (f"\n### {method.upper()} {path}\n" in page) == (method in methods)
    for code in document["components"]["schemas"]["Code"]["enum"]:
        assert f"| `{code}` |" in page
    for name, schema in document["components"]["schemas"].items():
        missing = [field for field in schema.get("properties", ()) if f"`{field}`" not in page and name != "Problem"]
        assert not missing, name


def test_new_field_makes_page_stale(tmp_path: Path) -> None:
    for file in API.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    document = json.loads((tmp_path / "openapi.json").read_text(encoding="utf-8"))
    document["components"]["schemas"]["KeepRequest"]["properties"]["colour"] = {"type": "string"}
    (tmp_path / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    assert "`colour`" in http_reference.page(tmp_path)
    assert http_reference.page(tmp_path) != http_reference.page(API)
