"""Checks the rules of this repository that no linter knows: purposes, sizes, forbidden text, layers of crates, links.

lint.py [ROOT]: prints each problem as `path:line: problem and hint`, and fails if there is one.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MAX_LINES = 500
PURPOSE_MARKERS = {".rs": "//!", ".py": '"""', ".sh": "#", ".sql": "--", ".toml": "#", ".yml": "#", ".yaml": "#"}
CODE = (".rs", ".py", ".sh", ".sql")
# Directories with files of other tools, such as pg_dump.
FOREIGN_DIRECTORIES = {"fixtures", "testdata", "golden", "snapshots"}
# These files have the forbidden texts in order to find them.
EXEMPT_FROM_TEXTS = {"scripts/lint.py", "scripts/tests/test_lint.py"}


@dataclass(frozen=True)
class Source:
    """A file that git tracks or would add, with its path below the root."""

    path: str
    lines: tuple[str, ...]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    @property
    def is_foreign(self) -> bool:
        return bool(FOREIGN_DIRECTORIES & set(PurePosixPath(self.path).parts))

    def code_lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not comments, with their numbers."""
        for number, line in enumerate(self.lines, start=1):
            if not line.lstrip().startswith(("//", "#", "--")) or line.lstrip().startswith(("#[", "#![")):
                yield number, line


@dataclass(frozen=True)
class ForbiddenText:
    """A text that code must not have; with `unless_explained`, not without a comment beside it."""

    pattern: re.Pattern[str]
    suffixes: tuple[str, ...]
    hint: str
    unless_explained: bool = False


FORBIDDEN_TEXTS = (
    ForbiddenText(re.compile(r"#\[ignore|#\[should_panic"), (".rs",), "a test runs and asserts; delete it otherwise"),
    ForbiddenText(re.compile(r"\b(todo|unimplemented)!"), (".rs",), "finish it or leave it out"),
    ForbiddenText(re.compile(r"\b(TODO|FIXME)\b"), (*CODE, ".md", ".toml", ".yml"), "do it, or write an issue"),
    ForbiddenText(
        re.compile(r"mark\.(skip|xfail)|pytest\.(skip|xfail)\("), (".py",), "a test runs and asserts; delete it otherwise"
    ),
    ForbiddenText(
        re.compile(r"\b(thread::|time\.)sleep\("), (".rs", ".py"), "poll a level with a deadline, or say why above it", True
    ),
    ForbiddenText(re.compile(r"#!?\[(allow|expect)\("), (".rs",), "mend it, or say why above it", True),
)


@dataclass(frozen=True)
class MentionRule:
    """A name that only some files may mention."""

    pattern: re.Pattern[str]
    within: str
    allowed: tuple[str, ...]
    rule: str


MENTION_RULES = (
    MentionRule(
        re.compile(r"\baxum\b"),
        "crates/pgdibs-server/",
        ("crates/pgdibs-server/src/http/",),
        "only http knows axum",
    ),
    MentionRule(
        re.compile(r"\bAssertSqlSafe\b"),
        "crates/",
        (
            "crates/pgdibs-postgres/src/ddl/text.rs",
            "crates/pgdibs-postgres/tests/",
            "crates/pgdibs-embedded/tests/",
            "crates/pgdibs-cli/tests/",
            "crates/pgdibs-testing/src/",
        ),
        "only ddl/text.rs puts identifiers into SQL text",
    ),
    MentionRule(
        re.compile(r"\b(Instant|SystemTime)::now\b|\bUuid::(new_v|now_v)"),
        "crates/pgdibs-core/src/",
        (),
        "the core has no clock and no randomness; take the value as an argument",
    ),
)


def purpose_problems(source: Source) -> Iterator[str]:
    """The first line (after an interpreter line) states the purpose of the file."""
    marker = "#" if source.path == ".ci/run" else PURPOSE_MARKERS.get(source.suffix)
    # A crate's manifest has its purpose in `description`.
    if marker is None or source.is_foreign or source.path.endswith("/Cargo.toml"):
        return
    lines = [line for line in source.lines if not line.startswith(("#!/", "# shellcheck"))]
    first = lines[0] if lines else ""
    if not first.startswith(marker) or len(first[len(marker) :].split()) < 2:
        yield f"{source.path}:1: the first line states the file's purpose, as `{marker} …`"


def size_problems(source: Source) -> Iterator[str]:
    """A file is short enough for one purpose."""
    if source.suffix in CODE and not source.is_foreign and len(source.lines) > MAX_LINES:
        yield f"{source.path}:{MAX_LINES}: {len(source.lines)} lines; split it by purpose, {MAX_LINES} are the limit"


def is_explained(source: Source, number: int) -> bool:
    """Whether the line or one of the two above it has a comment, or the attribute has a reason."""
    above = [line.lstrip() for line in source.lines[max(number - 3, 0) : number - 1]]
    attribute = "".join(source.lines[number - 1 : number + 5]).partition("]")[0]
    return (
        bool(re.search(r"//|\s#\s", source.lines[number - 1]))
        or "reason = " in attribute
        or any(line.startswith(("// ", "# ")) for line in above)
    )


def text_problems(source: Source) -> Iterator[str]:
    """No code is unfinished or skipped, and no test sleeps."""
    if source.path in EXEMPT_FROM_TEXTS or source.is_foreign:
        return
    for number, line in enumerate(source.lines, start=1):
        for forbidden in FORBIDDEN_TEXTS:
            found = forbidden.pattern.search(line) if source.suffix in forbidden.suffixes else None
            if found and not (forbidden.unless_explained and is_explained(source, number)):
                yield f"{source.path}:{number}: `{found[0]}`: {forbidden.hint}"


def layer_problems(source: Source) -> Iterator[str]:
    """Each module mentions only what it may know; crate-arrows.py does the same for crates."""
    if source.suffix == ".rs":
        for number, line in source.code_lines():
            for mention in MENTION_RULES:
                if not source.path.startswith(mention.within) or source.path.startswith(mention.allowed):
                    continue
                if found := mention.pattern.search(line):
                    yield f"{source.path}:{number}: `{found[0]}`: {mention.rule}"


def anchor_of(heading: str) -> str:
    """The fragment of a heading on the web page."""
    text = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading.lstrip("#").strip()).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def prose_lines(lines: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """The lines outside fenced blocks."""
    fenced = False
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors_of(lines: tuple[str, ...]) -> set[str]:
    """The fragments of a page; a repeated heading gets `-1`, `-2` and so on."""
    anchors: set[str] = set()
    for _, line in prose_lines(lines):
        if line.startswith("#"):
            anchor = anchor_of(line)
            repeated = (f"{anchor}-{number}" for number in itertools.count(1))
            anchors.add(anchor if anchor not in anchors else next(other for other in repeated if other not in anchors))
    return anchors


def external_problem(target: str) -> str | None:
    """What is wrong with the form of an external address; this does not fetch it."""
    try:
        parts = urllib.parse.urlsplit(target)
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("https", "http", "mailto"):
        return f"{parts.scheme}: is no scheme of a link"
    if parts.scheme != "mailto" and not re.fullmatch(r"[\w-]+(\.[\w-]+)*(:\d+)?", parts.netloc):
        return f"`{parts.netloc}` is no host"
    return None


def link_problems(source: Source, root: Path) -> Iterator[str]:
    """Links and pictures have existing targets; external addresses are well-formed."""
    if source.suffix != ".md":
        return
    for number, line in prose_lines(source.lines):
        for target in re.findall(r"\]\(<?([^)\s>]+)>?(?:\s[^)]*)?\)", re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                if problem := external_problem(target):
                    yield f"{source.path}:{number}: the link to {target}: {problem}"
                continue
            path, _, fragment = target.partition("#")
            file = (root / source.path).parent / path if path else root / source.path
            if not file.exists():
                yield f"{source.path}:{number}: the link leads to {path}, which does not exist"
            elif fragment and file.suffix == ".md":
                page = tuple(file.read_text(encoding="utf-8").splitlines())
                if fragment not in anchors_of(page):
                    yield f"{source.path}:{number}: no heading of {path or source.path} has the anchor #{fragment}"


def problems(root: Path, paths: list[str]) -> list[str]:
    """All problems of these files."""
    found: list[str] = []
    for path in sorted(paths):
        file = root / path
        try:
            source = Source(path, tuple(file.read_text(encoding="utf-8").splitlines()))
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        for rule in (purpose_problems, size_problems, text_problems, layer_problems):
            found.extend(rule(source))
        found.extend(link_problems(source, root))
    return found


def main() -> int:
    """Checks every file that git tracks or would add."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    paths = [path for path in listed.split("\0") if path]
    found = problems(root, paths)
    print("\n".join(found) if found else f"{len(paths)} files keep the rules")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
