"""How long a template takes until it is ready: the shop's Alembic chain, and the import of the file that an export wrote.

template_import.py [--rounds N]
In turns, with $PGDIBS_BIN (or `pgdibs`), on the daemon at PGDIBS_URL. It makes and drops the pool shop_import_bench.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
POOL = "shop_import_bench"


def pgdibs(*words: str) -> float:
    """Run a command, which has to succeed; its seconds."""
    program = os.path.abspath(os.environ["PGDIBS_BIN"]) if "PGDIBS_BIN" in os.environ else "pgdibs"
    started = time.monotonic()
    ran = subprocess.run(
        [program, *words], cwd=REPOSITORY / "examples/fastapi-shop", capture_output=True, text=True, timeout=120, check=False
    )
    if ran.returncode != 0:
        raise SystemExit(f"{words} ended with {ran.returncode}: {ran.stderr}")
    return time.monotonic() - started


def build() -> float:
    """Run the chain."""
    alembic = [sys.executable, "-m", "alembic", "upgrade", "head"]
    return pgdibs("template", "build", POOL, "--fingerprint", "chain", "--", *alembic)


def main() -> None:
    """Build and import in turns, after one of each that does not count; print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {"build": [], "export": [], "import": []}
    with tempfile.TemporaryDirectory() as directory:
        file = f"{directory}/shop.pgdibs"
        pgdibs("pool", "set", POOL, "--warm", "1", "--spares", "0")
        for _ in range(rounds + 1):
            seconds["build"].append(build())
            seconds["export"].append(pgdibs("template", "export", file, "--pool", POOL))
            pgdibs("template", "drop", POOL, "chain")
            seconds["import"].append(pgdibs("template", "import", file))
            pgdibs("template", "drop", POOL, "chain")
        print(f"the file: {Path(file).stat().st_size / 1000:.0f} kB")
    for what, all_seconds in seconds.items():
        counted = all_seconds[1:]
        print(f"{what}: median {statistics.median(counted):.2f} s, {min(counted):.2f} to {max(counted):.2f}")
    pgdibs("pool", "drop", POOL, "--force")


if __name__ == "__main__":
    main()
