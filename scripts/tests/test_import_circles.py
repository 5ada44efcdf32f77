"""import-circles.py finds modules that import each other, and accepts a tree without circles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "import-circles.py"


def run(source: Path, files: dict[str, str]) -> tuple[int, str]:
    """The exit code and the output for a source directory with these files."""
    for path, text in files.items():
        file = source / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    ended = subprocess.run([sys.executable, str(SCRIPT), str(source)], stdout=subprocess.PIPE, text=True)
    return ended.returncode, ended.stdout


def test_two_rust_modules_in_a_circle_are_found(tmp_path: Path) -> None:
    files = {
        "lib.rs": "mod a;\nmod b;\nmod c;\n",
        "a.rs": "use crate::b::{B, other::{C, D as E}};\n",
        "b.rs": "fn f() { super::a::g() }\n",
        "c.rs": "use crate::a;\n",
    }
    code, output = run(tmp_path, files)
    assert code == 1
    assert "2 modules import each other" in output
    assert "a imports b" in output and "b imports a" in output and "c imports" not in output


def test_circle_through_third_rust_module_is_found(tmp_path: Path) -> None:
    files = {
        "a.rs": "use super::b::B;\n",
        "b.rs": "use crate::{c::{C}};\n",
        "c/mod.rs": "pub use self::inner::C;\n",
        "c/inner.rs": "use crate::a::{self, A};\n",
    }
    code, output = run(tmp_path, files)
    assert code == 1
    assert "4 modules import each other" in output


def test_rust_module_in_nested_group_is_found(tmp_path: Path) -> None:
    files = {"a.rs": "use crate::{b::{c::C, d::D as E}, f};\n", "b/d.rs": "use crate::a::A;\n"}
    code, output = run(tmp_path, files)
    assert code == 1
    assert "a imports b::d" in output


def test_rust_child_and_parent_in_a_circle_are_found(tmp_path: Path) -> None:
    files = {"a/mod.rs": "use self::b::B;\n", "a/b.rs": "use super::Error;\n"}
    assert run(tmp_path, files)[0] == 1


def test_rust_tree_without_circle_passes(tmp_path: Path) -> None:
    files = {
        "lib.rs": "mod a;\nmod b;\n",
        "a/mod.rs": "mod c;\nmod d;\npub use self::c::C;\n",
        "a/c.rs": "use super::d::D;\n",
        "a/d.rs": "pub(in crate::a) struct D;\n",
        "b.rs": "use crate::a::C;\n",
    }
    code, output = run(tmp_path, files)
    assert code == 0, output


def test_rust_comments_and_tests_are_ignored(tmp_path: Path) -> None:
    files = {
        "a.rs": "use crate::b::B;\n",
        "b.rs": "// use crate::a::A;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n",
        "b/tests/mod.rs": "use self::helper::help;\n",
        "b/tests/helper.rs": "use super::Example;\n",
    }
    code, output = run(tmp_path, files)
    assert code == 0, output


PYTHON_CIRCLE = {
    "app/__init__.py": "",
    "app/a.py": "from app.b import B\n",
    "app/b.py": "from app import c\n",
    "app/c.py": "def late():\n    from app.a import A\n",
    "app/d.py": "import app.a\n",
}


def test_python_circle_with_import_in_function_is_found(tmp_path: Path) -> None:
    code, output = run(tmp_path, PYTHON_CIRCLE)
    assert code == 1
    assert "3 modules import each other" in output
    assert "app.a imports app.b" in output and "app.c imports app.a" in output and "app.d imports" not in output


def test_python_package_and_child_in_a_circle_are_found(tmp_path: Path) -> None:
    code, output = run(tmp_path, {"app/__init__.py": "from .a import A\n", "app/a.py": "from . import VALUE\n"})
    assert code == 1, output
    assert "app imports app.a" in output


def test_python_circle_for_type_checkers_is_listed_and_passes(tmp_path: Path) -> None:
    files = {
        "app/__init__.py": "",
        "app/a.py": "from app.b import B\n",
        "app/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from app.a import A\n",
    }
    code, output = run(tmp_path, files)
    assert code == 0, output
    assert "2 modules import each other, for type checkers alone" in output


def test_python_tree_without_circle_passes(tmp_path: Path) -> None:
    files = {
        "app/__init__.py": "",
        "app/sub/__init__.py": "from app.sub.inner import Inner\n",
        "app/sub/inner.py": "from app import low\n",
        "app/low.py": "import sys\n",
        "app/top.py": "from app.sub import Inner\nfrom . import low\n",
    }
    assert run(tmp_path, files) == (0, "no modules import each other\n")


def test_directory_without_sources_is_an_error(tmp_path: Path) -> None:
    assert run(tmp_path, {"note.md": ""})[0] == 1
