"""Runs a command against a fresh daemon: with-daemon.py COMMAND... (it gets PGDIBS_URL, PGDIBS_TOKEN, PGDIBS_BIN).

Exits with the status of the command. The daemon requires a token and is $PGDIBS_BIN (default: the debug build), on a data
directory and a port of its own. A daemon that does not end in order is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients/python/tests/support"))
from daemon_process import TemporaryDaemon


def main() -> int:
    daemon = TemporaryDaemon()
    try:
        status = subprocess.run(sys.argv[1:], env={**os.environ, **daemon.variables}, check=False).returncode
        daemon.stop()
    finally:
        daemon.kill()
    if status == 0:
        shutil.rmtree(daemon.data)
    else:
        print(f"the command ended with {status}; the daemon's data is in {daemon.data}\n{daemon.tail()}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
