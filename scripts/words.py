"""Checks the vocabulary: coined words are banned everywhere, and words with a standard meaning are banned as names.

words.py [PATH...] checks these files of the repository, or all; the glossary of ARCHITECTURE.md has the standard terms.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parent.parent

# Words that this project once coined, with their standard terms.
COINED = {
    "office": "leadership, leader",
    "bell": "wait queue, wake-up",
    "ear": "notification listener",
    "deaf": "without notifications",
    "whereabouts": "endpoint file",
    "holdups": "drop blockers",
    "mighty": "privileged",
    "untold": "not logged",
    "unheard": "the name of the timeout that ran out",
    "anew": "again",
    "handover": "payload",
    "looked into": "tampered",
    "hand work": "external change",
    "nobody": "the name of the actor",
    "somebody": "the name of the actor",
}
# Words with another standard meaning: no type, module or function has one of these names.
REUSED = {
    "asked": "a request",
    "at": "an extractor for paths",
    "begin": "start, configure",
    "checked": "validated, bounded integer",
    "cure": "pre-drop cleanup",
    "door": "authentication",
    "driven": "planner inputs",
    "guard": "what it protects, as in ConnectionGuard",
    "lines": "connection pool, or what the lines are of",
    "look": "snapshot, probe, sample",
    "marks": "state transitions",
    "nearest": "suggestion",
    "note": "label, record",
    "nowhere": "unavailable",
    "point": "set the environment, failpoint",
    "presence": "membership",
    "pulse": "stall detector",
    "quiet": "activity tracker",
    "report": "what it reports, as in StepReport",
    "room": "capacity",
    "say": "print, log, warn",
    "sent": "an extractor for queries",
    "twin": "clone",
    "up": "an extractor for the backend",
    "whole": "bounded list",
    "wire": "response types",
    "wish": "acquire request",
    "world": "backend",
}
# Temporary: these words are not yet replaced in the paths below, and checked everywhere else. Empty it when they are.
NOT_YET_IN_PAGES = {
    *("ear", "deaf", "hand work", "looked into", "nobody", "somebody"),
    *("at", "begin", "lines", "look", "note", "nowhere", "point", "report", "say", "up"),
}
# The pages for users follow in a change of their own.
NOT_YET_PATHS = ("docs/",)
# Patterns of `path:word`, each with a reason. At most ten.
ALLOWED = (
    r"scripts/(words|tests/test_words)\.py:.*",
    # The subjects of the example applications: the back office of a shop, the readers of a library.
    r"examples/.*:(office|world|nobody|somebody)",
    # The OS user `nobody`, as which Postgres may run when pgdibs runs as root.
    r"crates/pgdibs-embedded/src/(error|os_user)\.rs:nobody",
)
SUFFIXES = {".rs", ".py", ".md", ".sh", ".sql", ".toml", ".yml", ".yaml", ".json", ".patch"}
DEFINED = re.compile(r"\b(?:struct|enum|trait|fn|mod|type|class|def)\s+_*([A-Za-z]\w*)")


def is_checked(path: str, word: str) -> bool:
    """Whether the word is banned in this file."""
    if word in NOT_YET_IN_PAGES and path.startswith(NOT_YET_PATHS):
        return False
    return not any(re.fullmatch(allowed, f"{path}:{word}") for allowed in ALLOWED)


def module_name(path: str) -> str:
    """The name of the module in a source file: its own, or that of its directory."""
    file = PurePosixPath(path)
    return file.parent.name if file.stem in ("mod", "__init__") else file.stem.lstrip("_")


def coined_words(line: str) -> list[str]:
    """The coined words of a line, in text and in names of any case."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", line).lower())
    pairs = [f"{first} {second}" for first, second in zip(words, words[1:])]
    return [word for word in [*words, *pairs] if word in COINED]


def problems(path: str, text: str) -> list[str]:
    """The problems of one file, one line for each."""
    found = []
    is_source = path.endswith((".rs", ".py"))
    if is_source and module_name(path) in REUSED and is_checked(path, module_name(path)):
        found.append(f"{path}:1: the module `{module_name(path)}`: name it by what it is: {REUSED[module_name(path)]}")
    for number, line in enumerate(text.splitlines(), start=1):
        for word in coined_words(line):
            if is_checked(path, word):
                found.append(f"{path}:{number}: `{word}` is a coined word; write: {COINED[word]}")
        for name in DEFINED.findall(line) if is_source else ():
            if name.lower() in REUSED and is_checked(path, name.lower()):
                found.append(
                    f"{path}:{number}: `{name}` has another standard meaning; name it by what it is: {REUSED[name.lower()]}"
                )
    return found


def main() -> int:
    """Checks the given files, or all files in git."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    paths = sys.argv[1:] or listed.stdout.splitlines()
    found = []
    for path in paths:
        file = REPOSITORY / path
        if file.suffix in SUFFIXES and file.is_file():
            found += problems(path, file.read_text(encoding="utf-8", errors="replace"))
    for message in found:
        print(message)
    print(f"{len(found)} words to replace" if found else "the vocabulary is standard")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
