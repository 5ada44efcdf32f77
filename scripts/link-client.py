"""Makes clients/python importable for the interpreter that runs this, like an editable install without the program."""

from __future__ import annotations

import compileall
import re
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = REPOSITORY / "clients/python/src"


def main() -> None:
    """Writes a .pth file, and the metadata for `importlib.metadata`."""
    version = re.search(r'^version = "([^"]+)"$', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)
    assert version, 'Cargo.toml has no line `version = "…"` for the version of the client'
    packages = Path(sysconfig.get_path("purelib"))
    metadata = packages / f"pgdibs-{version[1]}.dist-info"
    metadata.mkdir(exist_ok=True)
    (packages / "pgdibs-in-place.pth").write_text(f"{SOURCES}\n")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pgdibs\nVersion: {version[1]}\n")
    (metadata / "entry_points.txt").write_text("[pytest11]\npgdibs = pgdibs.pytest_plugin\n")
    # As pip does: with PYTHONDONTWRITEBYTECODE each of the hundreds of processes of a test run would compile it again.
    compileall.compile_dir(SOURCES, quiet=1)


if __name__ == "__main__":
    main()
