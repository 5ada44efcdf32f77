"""find-secrets.sh finds a secret in each kind of file, and fails if there are too few files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "find-secrets.sh"
FILES = [
    "task-{}.log",
    "rust-{}.xml",
    "processes.log",
    *(f"kept/{kind}-e2e-{{}}.log" for kind in ("daemon", "postgres", "pages", "stderr")),
]
LEAKS = ["pgdibs{}".format("pw" + "0123" * 8), "p%40ss%3Aw%2Frd%3F%23%25%26", "p@ss:w/rd?#%&", "KEY=canary-of-a-build"]


def search(directory: Path) -> int:
    return subprocess.run([SCRIPT, directory], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode


@pytest.mark.parametrize("changed", FILES)
def test_secrets_and_missing_files_are_found(tmp_path: Path, changed: str) -> None:
    (tmp_path / "kept").mkdir()
    for name in FILES:
        for number in range(20):
            (tmp_path / name.format(number)).write_text("pgdibs_l_7 pgdibspw… ********\n", encoding="utf-8")
    assert search(tmp_path) == 0
    file = tmp_path / changed.format(1)
    for leak in LEAKS:
        file.write_text(f"some line with {leak} in it\n", encoding="utf-8")
        assert search(tmp_path) == 1, leak
    for number in range(20):
        (tmp_path / changed.format(number)).unlink(missing_ok=True)
    assert search(tmp_path) == 1
