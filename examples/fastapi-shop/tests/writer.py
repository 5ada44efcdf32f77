"""A process with an engine of its own that writes row after row until it is killed: `python -m tests.writer FILE`.

Nothing stops it: when the server refuses it, it tries again. FILE says how far it is.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path

from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

from shop.models import SessionWitness
from shop.worker import worker_engine

SECONDS = 300.0
"""Nothing kills it when the program that wanted to is killed itself."""


def main() -> None:
    """Write, to the database that the environment names; `clean_database.py` finds these rows wherever they come."""
    file, deadline = Path(sys.argv[1]), time.monotonic() + SECONDS
    engine = worker_engine()
    state = {"pid": os.getpid(), "written": 0, "refused": 0, "error": ""}
    for number in itertools.count(1):
        try:
            with engine.begin() as connection:
                row = {"run": "a process of another run", "worker": str(os.getpid()), "generation": number}
                connection.execute(insert(SessionWitness).values(row))
            state["written"] = int(str(state["written"])) + 1
        except DBAPIError as error:
            state |= {"refused": int(str(state["refused"])) + 1, "error": str(error)}
        written = file.with_suffix(".new")
        written.write_text(json.dumps(state))
        written.replace(file)
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)  # it is there to write, not to keep a processor busy


if __name__ == "__main__":
    main()
