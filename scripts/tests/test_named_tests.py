"""Tests that the documents name exist: an invariant whose test was renamed or dropped is held by nothing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = ("ARCHITECTURE.md", "SECURITY.md", "docs/faults.md")
# A name of a test: at least three words joined by underscores. Settings and columns with as many are in the sources too.
NAME = re.compile(r"`((?:[a-z0-9]+_){2,}[a-z0-9]+)`")
FILE = re.compile(r"`(?:[a-z_]+/)*([a-z_]+\.(?:rs|py|sh))`")


def sources() -> str:
    """The text of every source file of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "*.rs", "*.py", "*.sql", "*.sh", "*.toml"],
        cwd=REPOSITORY,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    texts = []
    for path in listed.stdout.splitlines():
        file = REPOSITORY / path
        if file.is_file():
            texts.append(path)
            texts.append(file.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(texts)


def test_each_test_that_a_document_names_exists() -> None:
    known = set(re.findall(r"[a-z_0-9]+(?:\.(?:rs|py|sh)\b)?", sources()))
    missing = []
    for document in DOCUMENTS:
        page = (REPOSITORY / document).read_text(encoding="utf-8")
        names = sorted(set(NAME.findall(page)) | set(FILE.findall(page)))
        missing += [f"{document}: `{name}`" for name in names if name not in known]
    assert missing == []


def test_each_test_of_a_sql_guard_exists() -> None:
    text = sources()
    missing = []
    for patch in sorted((REPOSITORY / "crates/pgdibs-postgres/tests/sql-guards").glob("*.patch")):
        tests = next(line for line in patch.read_text(encoding="utf-8").splitlines() if line.startswith("Test:"))
        for name in re.findall(r"test\(([^)]*)\)", tests):
            function = name.strip("/^$").rpartition("::")[2]
            if function not in text:
                missing.append(f"{patch.name}: {name}")
    assert missing == []
