"""The `.env*` files that the plugin reads: their order, and the parsing of lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgdibs.plugin.env_files import EnvFiles

LINES = [
    ("NAME=value", "value"),
    ("  export NAME = value  ", "value"),
    ("NAME='single # quoted'  # a comment", "single # quoted"),
    ('NAME="double \\" quoted" rest', 'double \\" quoted'),
    ("NAME=value # a comment", "value"),
    ("NAME=postgresql://u:p#w@h/d", "postgresql://u:p#w@h/d"),
    ("NAME=# nothing but a comment", ""),
    ("NAME=", ""),
    ("NAME=first\nNAME=last", "last"),
    ("\ufeffNAME=after a byte order mark", "after a byte order mark"),
    ("name=lower case", "lower case"),
    ("NAME=$(touch executed)`touch executed`${HOME}", "$(touch executed)`touch executed`${HOME}"),
    ("no line at all\n=\n# NAME=no\nNAME=yes", "yes"),
    ("NAME=windows\r\nOTHER=1", "windows"),
]


@pytest.mark.parametrize(("text", "value"), LINES, ids=[text[:20] for text, _value in LINES])
def test_env_file_line_has_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, value: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(text, newline="")
    assert EnvFiles(tmp_path).values("NAME") == [value]
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_env_files_are_read_by_precedence(tmp_path: Path) -> None:
    order = [".env.test.local", ".env.test", ".env.local", ".env", ".env.ci", ".env.staging", ".envrc"]
    for name in reversed([*order, ".env.example"]):
        (tmp_path / name).write_text(f"NAME={name}\n")
    (tmp_path / "env").write_text("NAME=of no such file\n")
    assert EnvFiles(tmp_path).values("NAME") == order
    assert EnvFiles(tmp_path).values("OTHER") == []
    for name in order:
        (tmp_path / name).unlink()
    assert EnvFiles(tmp_path).values("NAME") == [".env.example"]


def test_unreadable_env_files_are_skipped(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    os.mkfifo(tmp_path / ".env.local")
    (tmp_path / ".env.large").write_text("NAME=large\n" + "#" * (1 << 20))
    (tmp_path / ".env.loop").symlink_to(".env.loop")
    (tmp_path / ".env.bytes").write_bytes(b"\xff\xfe\x00\nNAME=bytes\n")
    assert EnvFiles(tmp_path).values("NAME") == ["bytes"]
    assert EnvFiles(tmp_path / "missing").values("NAME") == []
