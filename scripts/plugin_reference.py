"""Writes the tables of docs/python/pytest.md, from the options, fixtures and hooks that the plugin declares."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PLUGIN = REPOSITORY / "clients/python/src/pgdibs/pytest_plugin.py"
PAGE = REPOSITORY / "docs/python/pytest.md"
MARKER = ('@pytest.mark.pgdibs(reset="before")', "give the test a clean database, by a reset before it")


def declared(tree: ast.Module, method: str) -> Iterator[tuple[str, str]]:
    """The name and help of each call of `addini` or `addoption`, in order."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            given = {
                word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg in ("metavar", "choices", "help")
            }
            value = given.get("metavar") or "|".join(given.get("choices", ()))
            yield f"{texts[0]}={value}".replace("|", "\\|") if value else texts[0], given.get("help") or texts[1]


def fixtures(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The name and docstring of each public fixture, with its scope."""
    for node in tree.body:
        decorators = " ".join(map(ast.unparse, node.decorator_list)) if isinstance(node, ast.FunctionDef) else ""
        if isinstance(node, ast.FunctionDef) and "fixture" in decorators:
            yield f"{node.name}` ({'session' if 'session' in decorators else 'test'})", ast.get_docstring(node) or ""


def hooks(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The signature and docstring of each hook that a project may implement."""
    (declarations,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Hooks"]
    for node in declarations.body:
        if isinstance(node, ast.FunctionDef):
            yield f"{node.name}({', '.join(each.arg for each in node.args.args[1:])})", ast.get_docstring(node) or ""


def cell(text: str) -> str:
    """The text escaped for a table."""
    return re.sub(r"([|*])", r"\\\1", " ".join(text.split())).removesuffix(".")


def page(source: str, text: str) -> str:
    """The page, with the current tables below these headings."""
    tree = ast.parse(source)
    tables = {
        "In the ini file": declared(tree, "addini"),
        "Flags and variables": declared(tree, "addoption"),
        "Fixtures and the marker": [*fixtures(tree), MARKER],
        "Hooks, for conftest.py": hooks(tree),
    }
    for heading, rows in tables.items():
        lines = [f"| `{name}{'' if '`' in name else '`'} | {cell(about)} |\n" for name, about in rows]
        found = re.search(rf"^## {re.escape(heading)}\n(?:(?!## ).*\n)*?\|.*\n\|---.*\n((?:\|.*\n)*)", text, re.MULTILINE)
        assert found, f"{PAGE} has no table below `## {heading}`"
        text = text[: found.start(1)] + "".join(lines) + text[found.end(1) :]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PLUGIN.read_text(encoding="utf-8"), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
