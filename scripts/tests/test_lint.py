"""Each rule of lint.py finds a violation and accepts the correct form."""

from __future__ import annotations

from pathlib import Path

import lint
import pytest

RUST = "//! States the purpose of this file.\n"


def problems(root: Path, path: str, text: str) -> list[str]:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return lint.problems(root, [path])


BROKEN = [
    ("crates/pgdibs-core/src/plan.rs", "use uuid::Uuid;\n", "purpose"),
    ("scripts/a.py", "import os\n", "purpose"),
    ("scripts/a.sh", "#!/usr/bin/env bash\nset -e\n", "purpose"),
    ("migrations/0001_catalog.sql", "create table pool ();\n", "purpose"),
    ("scripts/empty.py", "", "purpose"),
    ("crates/pgdibs/src/long.rs", RUST + "\n" * 500, "501 lines"),
    ("crates/pgdibs/tests/a.rs", RUST + "#[ignore]\n", "runs and asserts"),
    ("crates/pgdibs/tests/a.rs", RUST + "#[should_panic]\n", "runs and asserts"),
    ("crates/pgdibs/src/a.rs", RUST + "fn a() { todo!() }\n", "finish it"),
    ("crates/pgdibs/src/a.rs", RUST + "// TODO: later\n", "write an issue"),
    ("examples/a/test_a.py", '"""Tests of the letter a."""\n@pytest.mark.skip\n', "runs and asserts"),
    ("examples/a/test_a.py", '"""Tests of the letter a."""\ntime.sleep(1)\n', "poll a level"),
    ("crates/pgdibs/src/a.rs", RUST + "std::thread::sleep(wait);\n", "poll a level"),
    ("crates/pgdibs/src/a.rs", RUST + "#[allow(dead_code)]\n", "say why"),
    ("crates/pgdibs-server/src/reconciler.rs", RUST + "use axum::Router;\n", "knows axum"),
    ("crates/pgdibs-postgres/src/catalog.rs", RUST + "AssertSqlSafe(text)\n", "ddl/text.rs"),
    ("crates/pgdibs-core/src/plan.rs", RUST + "let now = Instant::now();\n", "no clock"),
    ("crates/pgdibs-core/src/plan.rs", RUST + "let id = Uuid::new_v4();\n", "no clock"),
    ("README.md", "See [the design](DESIGN.md).\n", "does not exist"),
    ("README.md", "# Title\nSee [there](#missing).\n", "no heading"),
    ("README.md", "# Title\n# Title\nSee [there](#title-2).\n", "no heading"),
    ("README.md", "![a picture](pictures/none.svg)\n", "does not exist"),
    ("README.md", "See [there](https:/example.com).\n", "no host"),
    ("README.md", "See [there](htps://example.com).\n", "no scheme"),
]


@pytest.mark.parametrize(("path", "text", "message"), BROKEN)
def test_violation_is_reported_with_its_path(tmp_path: Path, path: str, text: str, message: str) -> None:
    found = problems(tmp_path, path, text)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert message in found[0]


CORRECT = [
    ("crates/pgdibs-core/src/plan.rs", RUST + "// The driver waits with tokio, not we.\n"),
    ("crates/pgdibs-postgres/src/ddl/text.rs", RUST + "use sqlx::AssertSqlSafe;\n"),
    ("crates/pgdibs-server/src/http/lease.rs", RUST + "use axum::Json;\n"),
    ("crates/pgdibs/tests/kill.rs", RUST + "use sqlx::PgConnection;\n"),
    ("crates/pgdibs/src/a.rs", RUST + "// The kernel needs a moment here.\nthread::sleep(wait);\n"),
    ("crates/pgdibs/src/a.rs", RUST + '#[allow(\n    dead_code,\n    reason = "used on macOS only"\n)]\n'),
    ("crates/pgdibs/src/long.rs", RUST + "\n" * 499),
    ("crates/pgdibs/tests/fixtures/dump.sql", "--\n-- PostgreSQL database dump\n"),
    ("scripts/a.sh", "#!/usr/bin/env bash\n# States its purpose.\n"),
    ("README.md", "# A title, here\nSee [it](#a-title-here), [web](https://example.org), `[no](link)`.\n```\n[x](y)\n```\n"),
]


@pytest.mark.parametrize(("path", "text"), CORRECT)
def test_correct_form_has_no_problems(tmp_path: Path, path: str, text: str) -> None:
    assert problems(tmp_path, path, text) == []
