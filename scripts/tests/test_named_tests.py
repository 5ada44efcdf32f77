"""Tests and scripts that the documents name exist: an invariant whose test was renamed or dropped is held by nothing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = ("CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md", "docs/faults.md")
# A name of a test: at least three words joined by underscores. Settings and columns with as many are in the sources too.
NAME = re.compile(r"`((?:[a-z0-9]+_){2,}[a-z0-9]+)`")
FILE = re.compile(r"`(?:[\w.-]+/)*([\w-]+\.(?:rs|py|sh))\b")


def known() -> set[str]:
    """The names of all source files, and all words in them."""
    command = ["git", "ls-files", "--", "*.rs", "*.py", "*.sql", "*.sh", "*.toml"]
    files = [REPOSITORY / path for path in subprocess.check_output(command, cwd=REPOSITORY, text=True).splitlines()]
    files = [file for file in files if file.is_file()]
    return {file.name for file in files}.union(*(re.findall(r"\w+", file.read_text(errors="replace")) for file in files))


def test_tests_and_scripts_in_documents_exist() -> None:
    words = known()
    pages = {document: (REPOSITORY / document).read_text(encoding="utf-8") for document in DOCUMENTS}
    named = {page: sorted({*NAME.findall(text), *FILE.findall(text)}) for page, text in pages.items()}
    assert sum(map(len, named.values())) > 20
    assert [f"{page}: `{name}`" for page, names in named.items() for name in names if name not in words] == []


def test_tests_of_sql_guards_exist() -> None:
    words = known()
    patches = sorted((REPOSITORY / "crates/pgdibs-postgres/tests/sql-guards").glob("*.patch"))
    tests = {patch.name: re.findall(r"test\(([^)]*)\)", patch.read_text(encoding="utf-8").split("\n\n")[0]) for patch in patches}
    assert patches and [names for names in tests.values() if not names] == []
    parts = {(patch, name.strip("/^$=").rpartition("::")[2]) for patch, names in tests.items() for name in names}
    assert [part for part in sorted(parts) if not any(part[1] in word for word in words)] == []
