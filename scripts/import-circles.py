"""Checks that no modules of a crate import each other in a circle: each can be read with those below it alone.

import-circles.py [SOURCE...] checks these source directories of crates, or crates/*/src. It reads `use` declarations and paths
that begin with crate, super or self; tests may import what they like.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

COMMENT = re.compile(r"//[^\n]*")
INNER_TESTS = re.compile(r"#\[cfg\(test\)\]\s*mod tests \{.*\Z", re.DOTALL)
# `pub(in crate::cli)` says who may use an item, and imports nothing.
VISIBILITY = re.compile(r"\bpub\(in [^)]*\)")
USE = re.compile(r"\buse\s+((?:crate|super|self)\b[^;]*);")
PATH = re.compile(r"(?<![\w:])((?:crate|super|self)(?:::\w+)+)")
GROUP = re.compile(r"([\w:\s]*?)(?:::)?\s*\{(.*)\}", re.DOTALL)


def modules(source: Path) -> dict[str, str]:
    """The text of each module below a source directory, by its path in the crate."""
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
    """The names of a path, without what it is renamed to."""
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
    """A path from the crate's root on, for one that stands in a module."""
    base = module.split("::")
    if path[0] == "crate":
        return path[1:]
    if path[0] == "self":
        return base + path[1:]
    up = next((index for index, name in enumerate(path) if name != "super"), len(path))
    return base[: max(len(base) - up, 0)] + path[up:]


def imports(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules that each module names."""
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
        # A module calls its children by their bare names.
        for child in texts:
            start, _, name = child.rpartition("::")
            if start == module and re.search(rf"(?<![\w:.]){name}::", text):
                found[module].add(child)
    return found


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """What a module imports, and what that imports, and so on."""
    found: set[str] = set()
    left = [start]
    while left:
        for module in graph[left.pop()] - found:
            found.add(module)
            left.append(module)
    return found


def circles(source: Path) -> list[dict[str, list[str]]]:
    """Each group of modules that import each other: what each member imports of the others."""
    graph = imports(modules(source))
    below = {module: reachable(graph, module) for module in graph}
    groups = {frozenset(other for other in below[module] if module in below[other]) for module in graph}
    return [
        {module: sorted(graph[module] & group) for module in sorted(group)}
        for group in sorted(groups, key=lambda group: sorted(group))
        if group
    ]


def main() -> int:
    """Checks the directories given, or those of all crates."""
    sources = [Path(argument) for argument in sys.argv[1:]] or sorted(REPOSITORY.glob("crates/*/src"))
    count = 0
    for source in sources:
        if not any(source.rglob("*.rs")):
            print(f"{source}: there are no Rust files")
            return 1
        for circle in circles(source):
            count += 1
            print(f"{source}: {len(circle)} modules import each other")
            for module, others in circle.items():
                print(f"    {module} imports {', '.join(others)}")
    print(f"{count} circles; move what is shared into a module below both" if count else "no modules import each other")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
