"""Makes clients/python importable in .venv, with its entry point, like an editable install without the binary.

Run it with the interpreter of that environment; repeated runs change nothing.
"""

from __future__ import annotations

import compileall
import re
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CLIENT = REPOSITORY / "clients" / "python"
VERSION = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)


def main() -> None:
    """Writes a .pth file, and the metadata for `importlib.metadata`."""
    packages = Path(sysconfig.get_path("purelib"))
    found = VERSION.search((REPOSITORY / "Cargo.toml").read_text())
    if found is None:
        raise SystemExit(f'{REPOSITORY / "Cargo.toml"} has no line `version = "…"` to take the client\'s version from')
    metadata = packages / f"pgdibs-{found[1]}.dist-info"
    metadata.mkdir(exist_ok=True)
    (packages / "pgdibs-in-place.pth").write_text(f"{CLIENT / 'src'}\n")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pgdibs\nVersion: {found[1]}\n")
    (metadata / "entry_points.txt").write_text("[pytest11]\npgdibs = pgdibs.pytest_plugin\n")
    (metadata / "INSTALLER").write_text("scripts/link-client.py\n")
    # As pip does: with PYTHONDONTWRITEBYTECODE each of the hundreds of processes of a test run would compile it again.
    compileall.compile_dir(CLIENT / "src", quiet=1)


if __name__ == "__main__":
    main()
