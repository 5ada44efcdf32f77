"""Checks that no modules of a Rust crate or a Python package import each other in a circle.

import-circles.py [SOURCE...] checks these source directories, or crates/*/src and clients/*/src. In Rust it reads all paths that
start with crate, super or self, except in tests. In Python it reads all imports, except for type checkers.
"""

from __future__ import annotations

import graphlib
import re
import sys
from pathlib import Path

import grimp

REPOSITORY = Path(__file__).resolve().parent.parent
# What imports nothing: comments, the tests at the end of a file, a visibility as `pub(in crate::cli)`.
SKIPPED = re.compile(r"//[^\n]*|#\[cfg\(test\)\]\s*mod tests \{.*\Z|\bpub\(in [^)]*\)", re.DOTALL)
GROUP = re.compile(r"((?:\w+::)+)\{([^{}]*)\}")
PATH = re.compile(r"(?<![\w:])(?:crate|super|self)(?:::\w+)+")


def paths_in(text: str) -> list[str]:
    """The paths in a Rust file; `a::{b, c::{d}}` names `a::b` and `a::c::d`."""
    text, groups = SKIPPED.sub("", text), 1
    while groups:
        text, groups = GROUP.subn(lambda found: ", ".join(found[1] + name.strip() for name in found[2].split(",")), text)
    return PATH.findall(text)


def absolute(path: str, module: tuple[str, ...]) -> tuple[str, ...]:
    """The path from the root of the crate, for a path in a module."""
    names = path.split("::")
    parents = next((index for index, name in enumerate(names) if name != "super"), len(names))
    base = {"crate": (), "self": module}.get(names[0], module[: max(len(module) - parents, 0)])
    return (*base, *names[max(parents, 1) :])


def rust_imports(source: Path) -> dict[str, set[str]]:
    """The modules that each Rust module names."""
    texts = {}
    for file in source.rglob("*.rs"):
        module = file.relative_to(source).with_suffix("").parts
        if "tests" not in module and module not in (("lib",), ("main",)):
            texts[module[:-1] if module[-1] == "mod" else module] = file.read_text(encoding="utf-8")
    found: dict[str, set[str]] = {"::".join(module): set() for module in texts}
    for module, text in texts.items():
        # A module refers to its children by their bare names.
        children = "|".join(child[-1] for child in texts if child[:-1] == module)
        text = re.sub(rf"(?<![\w:.])(?=(?:{children})::)", "self::", text) if children else text
        for path in paths_in(text):
            target = absolute(path, module)
            while target and target not in texts:
                target = target[:-1]
            found["::".join(module)] |= {"::".join(target)} if target and target != module else set()
    return found


def python_imports(source: Path) -> dict[str, set[str]]:
    """The modules that each Python module imports."""
    sys.path.insert(0, str(source))
    packages = [directory.parent.name for directory in source.glob("*/__init__.py")]
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def main() -> int:
    """Checks the given directories, or those of all crates and clients."""
    sources = [Path(argument) for argument in sys.argv[1:]] or [
        *REPOSITORY.glob("crates/*/src"),
        *REPOSITORY.glob("clients/*/src"),
    ]
    circles = 0
    for source in sources:
        imports = rust_imports(source) if any(source.rglob("*.rs")) else python_imports(source)
        try:
            graphlib.TopologicalSorter(imports).prepare()
        except graphlib.CycleError as circle:
            circles += 1
            print(f"{source}: a circle; move shared code into a module below: {' imports '.join(reversed(circle.args[1]))}")
    print(f"{len(sources)} source directories, {circles} with a circle")
    return 1 if circles or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
