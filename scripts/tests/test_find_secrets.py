"""The search for secrets finds one in each kind of file, and fails if there are too few files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent
MARK = "pgdibs"
HEX = "0123456789abcdef" * 4

# The path of each kind of file.
FILES = {
    "tasks": "task-{}.log",
    "junit": "rust-tests-{}.xml",
    "processes": "processes.log",
    "daemon": "kept/daemon-e2e-1-{}.log",
    "postgres": "kept/postgres-e2e-1-{}.log",
    "pages": "kept/pages-e2e-1-{}.log",
    "stderr": "kept/stderr-e2e-1-{}.log",
}


@pytest.fixture
def find_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, on a directory of a run without secrets."""
    spec = importlib.util.spec_from_file_location("find_secrets", SCRIPTS / "find-secrets.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for kind, count in module.MINIMUM_FILES.items():
        for number in range(count):
            file = tmp_path / FILES[kind].format(number)
            file.parent.mkdir(exist_ok=True)
            file.write_text("pgdibs listens on http://127.0.0.1:7432\npgdibs_l_7 pgdibspw… ********\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["find-secrets.py", str(tmp_path)])
    return module


def test_run_without_secrets_passes(find_secrets: ModuleType) -> None:
    assert find_secrets.main() == 0


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    "leak",
    [
        f"url=postgresql://pgdibs_l_7:{MARK}pw{HEX}@127.0.0.1/app",
        f'{{"token": "{MARK}bt{HEX}"}}',
        f"Authorization: Bearer {MARK}tk{HEX[:32]}",
        "connecting to postgresql://boss:p%40ss%3Aw%2Frd%3F%23%25%26@127.0.0.1",
        "password p@ss:w/rd?#%&",
        "KEY=canary-of-a-build",
    ],
)
def test_secret_is_found_in_each_kind(find_secrets: ModuleType, tmp_path: Path, kind: str, leak: str) -> None:
    with (tmp_path / FILES[kind].format(0)).open("a", encoding="utf-8") as file:
        file.write(f"some line with {leak} in it\n")
    assert find_secrets.main() == 1


@pytest.mark.parametrize("kind", FILES)
def test_search_with_missing_files_fails(find_secrets: ModuleType, tmp_path: Path, kind: str) -> None:
    (tmp_path / FILES[kind].format(0)).unlink()
    assert find_secrets.main() == 1
