"""Runs a command against a fresh daemon: with-daemon.py COMMAND... (it gets PGDIBS_URL, PGDIBS_TOKEN, PGDIBS_BIN).

Exits with the status of the command. The daemon requires a token and is $PGDIBS_BIN (default: the debug build), on a data
directory and a port of its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from daemon_process import DaemonError, DaemonProcess, free_port, fresh_data_directory, postgres_programs

REPOSITORY = Path(__file__).resolve().parent.parent


def main() -> int:
    """Starts the daemon, runs the command, stops the daemon; a daemon that does not end in order is a failure."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    target = os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target"))
    program = os.environ.get("PGDIBS_BIN", f"{target}/debug/pgdibs")
    if not os.access(program, os.X_OK):
        print(f"{program} does not exist; build it first: cargo build --package pgdibs-cli", file=sys.stderr)
        return 2
    data = fresh_data_directory()
    listen = f"127.0.0.1:{free_port()}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PGDIBS_")}
    # find-secrets.py searches for this prefix.
    token = f"pgdibstk{secrets.token_hex(16)}"
    environment.update(
        PGDIBS_TOKEN=token, PGDIBS_LISTEN=listen, PGDIBS_DATA_DIR=str(data / "data"), PGDIBS_PG_BIN_DIR=postgres_programs()
    )
    command_environment = {
        **os.environ,
        "PGDIBS_URL": f"http://{listen}",
        "PGDIBS_TOKEN": token,
        "PGDIBS_BIN": str(Path(program).resolve()),
    }
    daemon = DaemonProcess([program, "serve"], environment, f"http://{listen}", data / "daemon.log")
    try:
        daemon.wait_until_ready()
        print(f"daemon ready on {listen}, data in {data}", flush=True)
        status = subprocess.run(sys.argv[1:], env=command_environment, check=False).returncode
        if status != 0:
            print(daemon.tail(), flush=True)
        seconds = daemon.stop()
        print(f"daemon stopped in {seconds:.1f} s")
    except DaemonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        daemon.kill()
    if status == 0:
        shutil.rmtree(data)
    else:
        print(f"the command ended with {status}; the daemon's data and log are kept in {data}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
