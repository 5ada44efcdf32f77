"""Checks the rules of this repository that no linter knows: purposes, sizes, forbidden texts, layers of modules.

lint.py [ROOT]: prints each problem as `path:line: problem and hint`, and fails if there is one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MAX_LINES = 500
PURPOSE_MARKERS = {".rs": "//!", ".py": '"""', ".sh": "#", ".sql": "--", ".toml": "#", ".yml": "#", ".yaml": "#"}
CODE = (".rs", ".py", ".sh", ".sql")
# Files without a purpose line: of other tools, such as pg_dump, and manifests of crates, which have it in `description`.
FOREIGN = re.compile(r"(^|/)(fixtures|testdata|golden|snapshots)/|/Cargo\.toml$")

# A pattern, the paths in which no line of code may match it, the paths in which it may, and what to do instead.
FORBIDDEN = (
    (r"\b([T]ODO|[F]IXME)\b", r".*\.(rs|py|sh|sql|md|toml|yml)", r"$^", "do it, or write an issue"),
    (r"#\[(ignore|should_panic)", r".*\.rs", r"$^", "a test runs and asserts; delete it otherwise"),
    (r"\baxum\b", r"crates/pgdibs-server/.*\.rs", r".*/src/http/.*", "only http knows axum"),
    (
        r"\bAssertSqlSafe\b",
        r"crates/.*\.rs",
        r".*/src/ddl/text\.rs|crates/pgdibs-(postgres|embedded|cli)/tests/.*|crates/pgdibs-testing/src/.*",
        "only ddl/text.rs puts identifiers into SQL text",
    ),
)
# A wait needs a comment on its line or on one of the two lines above.
SLEEP = re.compile(r"\b(thread::|time\.)sleep\(")


def purpose_problems(path: str, lines: list[str]) -> Iterator[str]:
    """The first line (after an interpreter line) states the purpose of the file."""
    marker = "#" if path in (".ci/run", "Makefile") else PURPOSE_MARKERS.get(PurePosixPath(path).suffix)
    if marker is None or FOREIGN.search(path):
        return
    first = next((line for line in lines if not line.startswith(("#!/", "# shellcheck"))), "")
    if not first.startswith(marker) or len(first[len(marker) :].split()) < 2:
        yield f"{path}:1: the first line states the file's purpose, as `{marker} …`"


def size_problems(path: str, lines: list[str]) -> Iterator[str]:
    """A file is short enough for one purpose."""
    if path.endswith(CODE) and not FOREIGN.search(path) and len(lines) > MAX_LINES:
        yield f"{path}:{MAX_LINES}: {len(lines)} lines; split it by purpose, {MAX_LINES} are the limit"


def text_problems(path: str, lines: list[str]) -> Iterator[str]:
    """No code is unfinished, no module knows more than it may, no wait is unexplained."""
    rules = [
        (pattern, hint) for pattern, where, but, hint in FORBIDDEN if re.fullmatch(where, path) and not re.fullmatch(but, path)
    ]
    for number, line in enumerate(lines, start=1):
        code = re.sub(r"//.*", "", line) if path.endswith(".rs") else line
        for pattern, hint in rules:
            # Comments may name what code may not.
            if found := re.search(pattern, line if "issue" in hint else code):
                yield f"{path}:{number}: `{found[0]}`: {hint}"
        comments = [re.match(r"\s*(//|#) ", above) for above in lines[max(number - 3, 0) : number - 1]]
        if path.endswith((".rs", ".py")) and SLEEP.search(code) and not re.search(r"//|\s# ", line) and not any(comments):
            yield f"{path}:{number}: poll a level with a deadline, or say why above it"


def problems(path: str, text: str) -> list[str]:
    """All problems of a file."""
    lines = text.splitlines()
    return [problem for rule in (purpose_problems, size_problems, text_problems) for problem in rule(path, lines)]


def main() -> int:
    """Checks every file that git tracks or would add."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    paths = [path for path in subprocess.check_output(command, cwd=root, text=True).split("\0") if (root / path).is_file()]
    found = [line for path in paths for line in problems(path, (root / path).read_text(encoding="utf-8", errors="replace"))]
    print("\n".join(found) if found else f"{len(paths)} files keep the rules")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
