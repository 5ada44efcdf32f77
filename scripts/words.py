"""Checks the vocabulary: coined words are banned everywhere, and words with a standard meaning are no names of ours.

words.py [PATH...] checks these files of the repository, or all; the glossary of ARCHITECTURE.md has the standard terms.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# Coined here once; the standard term stands behind each.
COINED = {
    "office": "leadership, leader",
    "bell": "wait queue, wake-up",
    "whereabouts": "endpoint file",
    "holdups": "drop blockers",
    "mighty": "privileged",
    "untold": "not logged",
    "unheard": "the name of the timeout that ran out",
    "anew": "again",
}
# Good words for what others mean by them: no type, module or function here has one of these names.
REUSED = (
    "asked",
    "cure",
    "deaf",
    "door",
    "driven",
    "ear",
    "guard",
    "marks",
    "nearest",
    "presence",
    "pulse",
    "quiet",
    "room",
    "sent",
    "wire",
    "wish",
    "world",
)
# Patterns of `path:word`, each with a reason. At most ten.
ALLOWED = (
    r"scripts/(words|tests/test_words)\.py:.*",
    # What the example applications are about: a shop with its back office.
    r"examples/.*:(office|world)",
    # Guards in SQL, which is what they are called elsewhere too.
    r"scripts/sql-guards\.py:guard",
)
SUFFIXES = {".rs", ".py", ".md", ".sh", ".sql", ".toml", ".yml", ".yaml", ".json", ".patch"}
DEFINED = re.compile(r"\b(?:struct|enum|trait|fn|mod|type|class|def)\s+([A-Za-z_]\w*)")


def problems(path: str, text: str) -> list[str]:
    """What is wrong in one file, a line for each."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        for word in re.findall(r"[A-Za-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", line)):
            term = COINED.get(word.lower())
            if term:
                found.append((word.lower(), f"{path}:{number}: `{word}` is a word of our own; write: {term}"))
        if path.endswith((".rs", ".py")):
            for name in DEFINED.findall(line):
                if name.lower() in REUSED:
                    message = f"{path}:{number}: `{name}` means something else to others; name it by what it is"
                    found.append((name.lower(), message))
    return [message for word, message in found if not any(re.fullmatch(allowed, f"{path}:{word}") for allowed in ALLOWED)]


def main() -> int:
    """Checks the files given, or all that git knows."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    paths = sys.argv[1:] or listed.stdout.splitlines()
    found = []
    for path in paths:
        file = REPOSITORY / path
        if file.suffix in SUFFIXES and file.is_file():
            found += problems(path, file.read_text(encoding="utf-8", errors="replace"))
    for message in found:
        print(message)
    print(f"{len(found)} words to replace" if found else "the words are standard ones")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
