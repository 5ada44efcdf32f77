"""Checks that no modules of a Rust crate or a Python package import each other in a circle.

import-circles.py [SOURCE...] checks these source directories, or crates/*/src and clients/*/src. In Rust it reads `use`
declarations and paths that start with crate, super or self, except in tests. In Python it reads all imports, also those within
functions. Imports under `if TYPE_CHECKING` may close a circle: they exist for type checkers alone. The check lists such circles
without failing.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

COMMENT = re.compile(r"//[^\n]*")
INNER_TESTS = re.compile(r"#\[cfg\(test\)\]\s*mod tests \{.*\Z", re.DOTALL)
# `pub(in crate::cli)` is a visibility, and imports nothing.
VISIBILITY = re.compile(r"\bpub\(in [^)]*\)")
USE = re.compile(r"\buse\s+((?:crate|super|self)\b[^;]*);")
PATH = re.compile(r"(?<![\w:])((?:crate|super|self)(?:::\w+)+)")
GROUP = re.compile(r"([\w:\s]*?)(?:::)?\s*\{(.*)\}", re.DOTALL)


def rust_modules(source: Path) -> dict[str, str]:
    """The text of each Rust module below a source directory, by its path in the crate."""
    found = {}
    for file in sorted(source.rglob("*.rs")):
        parts = file.relative_to(source).with_suffix("").parts
        if "tests" in parts or parts in (("lib",), ("main",)):
            continue
        if parts[-1] == "mod":
            parts = parts[:-1]
        text = INNER_TESTS.sub("", file.read_text(encoding="utf-8"))
        found["::".join(parts)] = VISIBILITY.sub("pub", COMMENT.sub("", text))
    return found


def names(path: str) -> list[str]:
    """The names of a path, without a rename."""
    return re.sub(r"\s+as\s+\w+", "", path).strip().split("::")


def members(group: str) -> list[str]:
    """The members of a group in a `use` declaration; a group within it stays whole."""
    found = [""]
    depth = 0
    for character in group:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [member.strip() for member in found if member.strip()]


def used(tree: str) -> list[list[str]]:
    """Every path that a `use` declaration names."""
    group = GROUP.fullmatch(tree.strip())
    if group is None:
        return [names(tree)]
    start = names(group[1]) if group[1].strip() else []
    return [start + path for member in members(group[2]) for path in used(member)]


def absolute(path: list[str], module: str) -> list[str]:
    """The path from the root of the crate, for a path in a module."""
    base = module.split("::")
    if path[0] == "crate":
        return path[1:]
    if path[0] == "self":
        return base + path[1:]
    parents = next((index for index, name in enumerate(path) if name != "super"), len(path))
    return base[: max(len(base) - parents, 0)] + path[parents:]


def rust_imports(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules that each Rust module names."""
    found: dict[str, set[str]] = {module: set() for module in texts}
    for module, text in texts.items():
        paths = [path for tree in USE.findall(text) for path in used(tree)]
        paths += [names(path) for path in PATH.findall(text)]
        for path in paths:
            target = absolute(path, module)
            while target and "::".join(target) not in texts:
                target.pop()
            if target and "::".join(target) != module:
                found[module].add("::".join(target))
        # A module refers to its children by their bare names.
        for child in texts:
            start, _, name = child.rpartition("::")
            if start == module and re.search(rf"(?<![\w:.]){name}::", text):
                found[module].add(child)
    return found


def python_modules(source: Path) -> dict[str, ast.Module]:
    """The syntax tree of each Python module below a source directory, by its dotted name."""
    found = {}
    for file in sorted(source.rglob("*.py")):
        parts = file.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return found


def type_checking_nodes(tree: ast.Module) -> set[ast.AST]:
    """The nodes of all blocks under `if TYPE_CHECKING`."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                found.update(ast.walk(statement))
    return found


def imported_names(node: ast.AST, module: str, is_package: bool) -> list[str]:
    """The dotted names that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        # One dot is the package of the module; each further dot is the package above.
        above = module.split(".")
        above = above[: len(above) - node.level + (1 if is_package else 0)]
        base = ".".join([*above, *([base] if base else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def python_imports(trees: Mapping[str, ast.Module], source: Path, with_types: bool) -> dict[str, set[str]]:
    """The modules that each Python module imports; `with_types` includes imports under `if TYPE_CHECKING`."""
    found: dict[str, set[str]] = {module: set() for module in trees}
    for module, tree in trees.items():
        skipped = set() if with_types else type_checking_nodes(tree)
        is_package = (source / module.replace(".", "/") / "__init__.py").is_file()
        for node in ast.walk(tree):
            for target in imported_names(node, module, is_package) if node not in skipped else []:
                while target and target not in trees:
                    target = target.rpartition(".")[0]
                if target and target != module:
                    found[module].add(target)
    return found


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """All modules that a module imports, directly or indirectly."""
    found: set[str] = set()
    left = [start]
    while left:
        for module in graph[left.pop()] - found:
            found.add(module)
            left.append(module)
    return found


def circles(graph: Mapping[str, set[str]]) -> list[dict[str, list[str]]]:
    """Each group of modules that import each other, with the imports of each member from the group."""
    below = {module: reachable(graph, module) for module in graph}
    groups = {frozenset(other for other in below[module] if module in below[other]) for module in graph}
    return [
        {module: sorted(graph[module] & group) for module in sorted(group)}
        for group in sorted(groups, key=lambda group: sorted(group))
        if group
    ]


def print_circles(found: list[dict[str, list[str]]], source: Path, note: str = "") -> None:
    """Prints each circle with its imports."""
    for circle in found:
        print(f"{source}: {len(circle)} modules import each other{note}")
        for module, others in circle.items():
            print(f"    {module} imports {', '.join(others)}")


def main() -> int:
    """Checks the given directories, or those of all crates and clients."""
    defaults = sorted([*REPOSITORY.glob("crates/*/src"), *REPOSITORY.glob("clients/*/src")])
    count = 0
    for source in [Path(argument) for argument in sys.argv[1:]] or defaults:
        texts, trees = rust_modules(source), python_modules(source)
        if not any(source.rglob("*.rs")) and not trees:
            print(f"{source}: there are no Rust or Python files")
            return 1
        found = circles(rust_imports(texts)) + circles(python_imports(trees, source, with_types=False))
        print_circles(found, source)
        count += len(found)
        if not found:
            print_circles(circles(python_imports(trees, source, with_types=True)), source, ", for type checkers alone")
    print(f"{count} circles; move shared code into a module below both" if count else "no modules import each other")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
