"""Each rule of lint.py finds a violation and accepts the correct form."""

from __future__ import annotations

import lint
import pytest

RUST = "//! States the purpose of this file.\n"
WAIT = "std::thread::sleep(wait);\n"  # a text, no wait

BROKEN = [
    ("crates/pgdibs-core/src/plan.rs", "use uuid::Uuid;\n", "purpose"),
    ("scripts/a.sh", "#!/usr/bin/env bash\nset -e\n", "purpose"),
    ("scripts/empty.py", "", "purpose"),
    ("crates/pgdibs/src/long.rs", RUST + "\n" * 500, "501 lines"),
    ("crates/pgdibs/tests/a.rs", RUST + "#[ignore]\n", "runs and asserts"),
    ("README.md", f"TO{'DO'}: later\n", "write an issue"),
    ("crates/pgdibs/src/a.rs", RUST + WAIT, "poll a level"),
    ("crates/pgdibs-server/src/reconciler.rs", RUST + "use axum::Router;\n", "knows axum"),
    ("crates/pgdibs-postgres/src/catalog.rs", RUST + "AssertSqlSafe(text)\n", "ddl/text.rs"),
]
CORRECT = [
    ("crates/pgdibs-postgres/src/ddl/text.rs", RUST + "use sqlx::AssertSqlSafe;\n"),
    ("crates/pgdibs-postgres/src/ddl.rs", RUST + "//! AssertSqlSafe is in ddl/text.rs.\n"),
    ("crates/pgdibs-server/src/http/lease.rs", RUST + "use axum::Json;\n"),
    ("crates/pgdibs/src/a.rs", RUST + "// The kernel needs a moment here.\n" + WAIT),
    ("crates/pgdibs/src/long.rs", RUST + "\n" * 499),
    ("crates/pgdibs/tests/fixtures/dump.sql", "--\n-- PostgreSQL database dump\n"),
    ("scripts/a.sh", "#!/usr/bin/env bash\n# States its purpose.\n"),
]


@pytest.mark.parametrize(("path", "text", "message"), BROKEN)
def test_violation_is_reported_with_its_path(path: str, text: str, message: str) -> None:
    (found,) = lint.problems(path, text)
    assert found.startswith(f"{path}:") and message in found


@pytest.mark.parametrize(("path", "text"), CORRECT)
def test_correct_form_has_no_problems(path: str, text: str) -> None:
    assert lint.problems(path, text) == []
