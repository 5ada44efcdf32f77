"""import-circles.py finds modules that import each other, and accepts a tree without circles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "import-circles.py"
CIRCLES = [
    {"a.rs": "use crate::b::{B, other::{C, D as E}};\n", "b.rs": "fn f() { super::a::g() }\n"},
    {"a.rs": "use crate::{b::{c::C, d::D as E}, f};\n", "b/d.rs": "use crate::a::{self, A};\n"},
    {"a/mod.rs": "use self::b::B;\n", "a/b.rs": "use super::Error;\n"},
    {"a.rs": "fn f() { b::g() }\n", "a/b.rs": "use crate::a::f;\n"},
    {"app/__init__.py": "", "app/a.py": "from app import b\n", "app/b.py": "def late():\n    from app.a import A\n"},
    {"app/__init__.py": "from .a import A\n", "app/a.py": "from . import VALUE\n"},
]
CORRECT = [
    {"a/mod.rs": "mod c;\npub use self::c::C;\n", "a/c.rs": "use super::d::D;\n", "a/d.rs": "pub(in crate::a) struct D;\n"},
    {"a.rs": "use crate::b::B;\n", "b.rs": "// use crate::a::A;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"},
    {
        "app/__init__.py": "",
        "app/a.py": "from app.b import B\n",
        "app/b.py": "import typing\nif typing.TYPE_CHECKING:\n    import app.a\n",
    },
]


@pytest.mark.parametrize(("files", "status"), [*((files, 1) for files in CIRCLES), *((files, 0) for files in CORRECT)])
def test_circles_and_nothing_else_are_found(tmp_path: Path, files: dict[str, str], status: int) -> None:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    ran = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == status and ("a circle;" in ran.stdout) == bool(status), ran.stdout
