"""Writes docs/python/pytest.md from the options, fixtures and hooks that clients/python/src/pgdibs/pytest_plugin.py declares."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PLUGIN = "clients/python/src/pgdibs/pytest_plugin.py"
PAGE = "docs/python/pytest.md"

HEAD = """# pytest: settings, fixtures, hooks

<!-- Written by `python3 scripts/plugin_reference.py` from the plugin. Change that, not this page. -->

```ini
[pytest]
pgdibs_pool = myapp_test
pgdibs_fingerprint = migrations/**/*.py
pgdibs_build = alembic upgrade head
```

The plugin comes with `pip install pgdibs` and does nothing until it is given a pool. A flag wins over a variable, a variable over
the ini file. `-p no:pgdibs` leaves it out.

A setting that begins with `pgdibs` and that does not exist stops the run, with the nearest name; one that another plugin or the
project has registered (`parser.addini`) is theirs.

Which variables it sets, and with which driver: [variables](variables.md).
With frameworks: [Django](django.md), [SQLAlchemy](sqlalchemy.md), [FastAPI](fastapi.md).
"""


def declared(tree: ast.Module, method: str) -> Iterator[tuple[str, str]]:
    """Name and help of each call of `addini` or `addoption`, in their order."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method):
            continue
        texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        given = {word.arg: str(word.value.value) for word in node.keywords if isinstance(word.value, ast.Constant)}
        choices = next((ast.literal_eval(word.value) for word in node.keywords if word.arg == "choices"), ())
        value = given.get("metavar") or "|".join(choices)
        name = f"{texts[0]}={value}" if value else texts[0]
        yield name, given.get("help") or texts[1]


def sentence(text: str) -> str:
    """Fit for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").removesuffix(".")


def fixtures(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Name and docstring of each public fixture, with its scope."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            decorators = [ast.unparse(each) for each in node.decorator_list]
            if any("fixture" in each for each in decorators):
                scope = "session" if any("session" in each for each in decorators) else "test"
                yield f"{node.name}` ({scope})", ast.get_docstring(node) or ""


def hooks(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Signature and docstring of each hook that a project may implement."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Hooks":
            for each in node.body:
                if isinstance(each, ast.FunctionDef):
                    arguments = ", ".join(argument.arg for argument in each.args.args if argument.arg != "self")
                    yield f"{each.name}({arguments})", ast.get_docstring(each) or ""


def page(source: str) -> str:
    """The whole page."""
    tree = ast.parse(source)
    parts = [HEAD.rstrip()]
    parts.append("## In the ini file")
    rows = ["| setting | meaning |", "|---|---|"]
    parts.append("\n".join(rows + [f"| `{name}` | {sentence(text)} |" for name, text in declared(tree, "addini")]))
    parts.append("## Flags and variables")
    rows = ["| flag | meaning |", "|---|---|"]
    flags = ((name.replace("|", "\\|"), text) for name, text in declared(tree, "addoption"))
    parts.append("\n".join(rows + [f"| `{name}` | {sentence(text)} |" for name, text in flags]))
    parts.append("## Fixtures and the marker")
    rows = ["| name | what it is |", "|---|---|"]
    rows += [f"| `{name} | {sentence(text)} |" for name, text in fixtures(tree)]
    rows.append('| `@pytest.mark.pgdibs(reset="before")` | give the test a clean database, by a reset before it |')
    parts.append("\n".join(rows))
    parts.append("## Hooks, for conftest.py")
    rows = ["| hook | when |", "|---|---|"]
    parts.append("\n".join(rows + [f"| `{name}` | {sentence(text)} |" for name, text in hooks(tree)]))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Writes the page."""
    (REPOSITORY / PAGE).write_text(page((REPOSITORY / PLUGIN).read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
