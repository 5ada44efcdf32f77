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

The plugin comes with `pip install pgdibs`. With a pool in the ini file it leases each test process a database. In a
project without settings of pgdibs it does nothing; other settings without a pool stop the run.

```ini
[pytest]
pgdibs_pool = myapp_test
pgdibs_fingerprint = migrations/**/*.py
pgdibs_build = alembic upgrade head
```

A flag wins over a variable, a variable over the ini file, the ini file over the default. Which variables the plugin sets,
and with which driver: [variables](variables.md). With frameworks: [Django](django.md), [FastAPI](fastapi.md),
[SQLAlchemy](sqlalchemy.md).

An unknown setting that starts with `pgdibs` stops the run; the error suggests a similar one. A setting that another plugin
or the project has registered (`parser.addini`) is theirs.

If the plugin is not loaded, the tests use whatever database the variables name. pytest does not load it where pgdibs is not
installed, with `-p no:pgdibs`, and with `PYTEST_DISABLE_PLUGIN_AUTOLOAD` unless `-p pgdibs` is given. With
`required_plugins = pgdibs` in the ini file, pytest refuses such a run: `Missing required plugins: pgdibs`.
"""

GUARD = """## The guard

While a pool is configured, the plugin checks every connection that a test process opens to Postgres. It stops a connection
to a database that pgdibs did not lease to this process before the connection opens. Then the run ends with one line and
status 4:

```text
ERROR: pgdibs: stopped a connection by SQLAlchemy with psycopg opened at conftest.py:5 to database shop_dev on
127.0.0.1:5432, which pgdibs did not lease; it should have been myapp_test_gw0 on 127.0.0.1:5433. conftest.py:3 sets
DATABASE_URL after pgdibs has set it; delete that line. If the connection is meant, add `pgdibs_allow =
127.0.0.1:5432/shop_dev` to the ini file
```

[Troubleshooting](../troubleshooting.md#pgdibs-stopped-a-connection) says what to do about each cause.

The guard checks SQLAlchemy 1.4 and 2 (sync and async), Django, psycopg 3 and its pools, psycopg2 and its pools, asyncpg and
its pools, and pg8000, from their import on. It imports none of them.

It does not check:

- A process that a test starts; it does check a forked child. `pgdibs_build` is such a process: its variables name the
  database to fill, and a command that reads its URL from elsewhere reaches another database.
- A connection that is open before the plugin starts, such as one of a module after `-p` that connects at import.
- Other drivers than these, unless SQLAlchemy uses them.
- `psycopg2.extensions.connection(dsn)` and `psycopg.pq.PGconn.connect`, which are types of C that cannot be wrapped.

It allows:

- The leases of this process, under all aliases, and every database that `pgdibs.Client` has returned to it. It compares
  host, port and database, as the driver derives them from URL, arguments, `PG*` variables, service file and defaults.
  `localhost`, `127.0.0.1`, `::1` and a Unix socket are the same host. If the guard cannot determine the target, it stops the
  connection.
- In the process that builds a template (`pytest_pgdibs_build_template`): the database to fill, and no other.
- In the xdist controller and with `--collect-only`: nothing, because these processes lease nothing.
- A mock in the place of a driver's `connect`, as by `mock.patch("psycopg2.connect")`: it reaches no server. If the mock
  calls the driver (`wraps`, `side_effect`), the guard stops it there. It stops another function in that place below
  SQLAlchemy and Django.
- What `pgdibs_allow` lists, as `host:port/database` with the wildcards `*` and `?`:
  `pgdibs_allow = db.internal:5432/reference_*`. In a pool with `login = "createdb"`, tests may create databases, which are
  no leases: list their names, as in `pgdibs_allow = *:*/name_*`. A test of what the application does when no server answers
  connects to a port where no server listens. List that, too, with its port: `pgdibs_allow = 127.0.0.1:1/*`.

The exception is `pgdibs.ConnectionStopped`. It derives from `BaseException` and from no driver's error, so
`except OperationalError` and `except Exception` do not catch it. If the application catches it nevertheless, the run ends
after the test, the import or the hook in which it was raised. The guard also stops a connection in the `pytest_unconfigure`
of an xdist worker, or after the run, but only prints the line to standard error. `pgdibs_guard = warn` allows all
connections and shows one warning for each target; `pgdibs_guard = off` checks nothing. A check takes less than 20 µs
(`clients/python/bench/connection_guard.py` measures it)."""


def declared(tree: ast.Module, method: str) -> Iterator[tuple[str, str]]:
    """The name and help of each call of `addini` or `addoption`, in order."""
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
    """The text escaped for a table cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").removesuffix(".")


def fixtures(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The name and docstring of each public fixture, with its scope."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            decorators = [ast.unparse(each) for each in node.decorator_list]
            if any("fixture" in each for each in decorators):
                scope = "session" if any("session" in each for each in decorators) else "test"
                yield f"{node.name}` ({scope})", ast.get_docstring(node) or ""


def hooks(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The signature and docstring of each hook that a project may implement."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Hooks":
            for each in node.body:
                if isinstance(each, ast.FunctionDef):
                    arguments = ", ".join(argument.arg for argument in each.args.args if argument.arg != "self")
                    yield f"{each.name}({arguments})", ast.get_docstring(each) or ""


def page(source: str) -> str:
    """The page."""
    tree = ast.parse(source)
    parts = [HEAD.rstrip()]
    parts.append("## In the ini file")
    rows = ["| setting | meaning |", "|---|---|"]
    parts.append("\n".join(rows + [f"| `{name}` | {sentence(text)} |" for name, text in declared(tree, "addini")]))
    parts.append("## Flags and variables")
    rows = ["| flag | meaning |", "|---|---|"]
    flags = ((name.replace("|", "\\|"), text) for name, text in declared(tree, "addoption"))
    parts.append("\n".join(rows + [f"| `{name}` | {sentence(text)} |" for name, text in flags]))
    parts.append(GUARD)
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
