"""Checks the vocabulary of .config/words.ini: coined words everywhere, reused words as names of types, modules and functions.

words.py [PATH...] checks these files of the repository, or all.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parent.parent
LISTS = configparser.RawConfigParser(delimiters=("=",))
LISTS.read(REPOSITORY / ".config/words.ini", encoding="utf-8")
COINED, REUSED, ALLOWED = LISTS["coined"], LISTS["reused"], LISTS["allowed"]
SUFFIXES = {".rs", ".py", ".md", ".sh", ".sql", ".toml", ".yml", ".yaml", ".json", ".patch", ".ini", ".j2"}
DEFINED = re.compile(r"\b(?:struct|enum|trait|fn|mod|type|class|def)\s+_*([A-Za-z]\w*)")


def coined_words(line: str) -> list[str]:
    """The coined words of a line, in text and in names of any case."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", line).lower())
    pairs = [f"{first} {second}" for first, second in zip(words, words[1:])]
    return [word for word in [*words, *pairs] if word in COINED]


def reused_names(path: str, line: str) -> list[str]:
    """The reused words that a line of source code defines as names."""
    names = DEFINED.findall(line) if path.endswith((".rs", ".py")) else []
    return [name.lower() for name in names if name.lower() in REUSED]


def problems(path: str, text: str) -> list[str]:
    """The problems of one file, one line for each."""
    file = PurePosixPath(path)
    module = file.parent.name if file.stem in ("mod", "__init__") else file.stem.lstrip("_")
    found = [(1, name, REUSED[name]) for name in reused_names(path, f"mod {module}")]
    for number, line in enumerate(text.splitlines(), start=1):
        found += [(number, word, COINED[word]) for word in coined_words(line)]
        found += [(number, name, REUSED[name]) for name in reused_names(path, line)]
    return [
        f"{path}:{number}: `{word}` is not the standard word; write: {instead}"
        for number, word, instead in found
        if not any(re.fullmatch(allowed, f"{path}:{word}") for allowed in ALLOWED.values())
    ]


def main() -> int:
    """Checks the given files, or all files in git."""
    paths = sys.argv[1:] or subprocess.check_output(["git", "ls-files"], cwd=REPOSITORY, text=True).splitlines()
    files = [path for path in paths if PurePosixPath(path).suffix in SUFFIXES and (REPOSITORY / path).is_file()]
    found = [line for path in files for line in problems(path, (REPOSITORY / path).read_text(encoding="utf-8", errors="replace"))]
    print("\n".join([*found, f"{len(found)} words to replace"]) if found else f"{len(files)} files have the standard vocabulary")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
