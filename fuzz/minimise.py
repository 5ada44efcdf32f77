"""Keeps at most LIMIT inputs of a corpus, by coverage: minimise.py CONTROL CORPUS LIMIT. scripts/fuzz.sh calls it.

CONTROL is the control file of a libFuzzer merge (`-merge_control_file`) of the corpus and of new inputs. It lists the edges that
each input reaches. The input that reaches the most edges that no kept input reaches is kept next. Inputs with a name of their
own, not libFuzzer's hash, are always kept: each is the input of a bug that was fixed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def main(control: str, corpus: Path, limit: int) -> None:
    """Replaces the files of the corpus by those that are kept."""
    lines = Path(control).read_text().splitlines()
    paths = [Path(line) for line in lines[2 : 2 + int(lines[0])]]
    found = (line.split()[1:] for line in lines if line.startswith("FT "))
    edges = {paths[int(index)]: set(features) for index, *features in found}
    kept = [path for path in edges if not re.fullmatch("[0-9a-f]{16,}", path.name)]
    reached = {edge for path in kept for edge in edges[path]}
    every = set().union(*edges.values())
    while len(kept) < limit and reached != every:
        best = max(edges, key=lambda path: (len(edges[path] - reached), -path.stat().st_size, path.name))
        kept.append(best)
        reached |= edges[best]
    contents = {path.name: path.read_bytes() for path in kept}
    for path in corpus.iterdir():
        path.unlink()
    for name, content in contents.items():
        (corpus / name).write_bytes(content)
    print(f"{corpus}: {len(edges)} inputs reach {len(every)} edges; {len(kept)} of them, which reach {len(reached)}, are kept")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
