"""`python -m pgdibs …` is the program `pgdibs …`."""

from __future__ import annotations

import os
import subprocess
import sys

from pgdibs.errors import PgdibsError
from pgdibs.program import find_program


def main() -> int:
    """Replace this process with the program; on Windows, run the program and return its exit status."""
    try:
        command = [find_program(), *sys.argv[1:]]
    except PgdibsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if os.name == "nt":
        return subprocess.run(command, check=False).returncode
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
