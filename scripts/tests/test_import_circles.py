"""import-circles.py finds modules that import each other, and lets a tree without a circle pass."""

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


def test_two_modules_that_import_each_other_are_found(tmp_path: Path) -> None:
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


def test_circle_through_a_third_module_is_found(tmp_path: Path) -> None:
    files = {
        "a.rs": "use super::b::B;\n",
        "b.rs": "use crate::{c::{C}};\n",
        "c/mod.rs": "pub use self::inner::C;\n",
        "c/inner.rs": "use crate::a::{self, A};\n",
    }
    code, output = run(tmp_path, files)
    assert code == 1
    assert "4 modules import each other" in output


def test_module_in_a_group_within_a_group_is_found(tmp_path: Path) -> None:
    files = {"a.rs": "use crate::{b::{c::C, d::D as E}, f};\n", "b/d.rs": "use crate::a::A;\n"}
    code, output = run(tmp_path, files)
    assert code == 1
    assert "a imports b::d" in output


def test_child_that_imports_from_a_parent_that_imports_it_is_found(tmp_path: Path) -> None:
    files = {"a/mod.rs": "use self::b::B;\n", "a/b.rs": "use super::Error;\n"}
    assert run(tmp_path, files)[0] == 1


def test_tree_without_a_circle_passes(tmp_path: Path) -> None:
    files = {
        "lib.rs": "mod a;\nmod b;\n",
        "a/mod.rs": "mod c;\nmod d;\npub use self::c::C;\n",
        "a/c.rs": "use super::d::D;\n",
        "a/d.rs": "pub(in crate::a) struct D;\n",
        "b.rs": "use crate::a::C;\n",
    }
    code, output = run(tmp_path, files)
    assert code == 0, output


def test_comments_and_tests_are_no_imports(tmp_path: Path) -> None:
    files = {
        "a.rs": "use crate::b::B;\n",
        "b.rs": "// use crate::a::A;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n",
        "b/tests/mod.rs": "use self::helper::help;\n",
        "b/tests/helper.rs": "use super::Example;\n",
    }
    code, output = run(tmp_path, files)
    assert code == 0, output


def test_directory_without_rust_files_is_an_error(tmp_path: Path) -> None:
    assert run(tmp_path, {"a.py": ""})[0] == 1
