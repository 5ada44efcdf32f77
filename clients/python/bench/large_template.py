"""A large template on a file system in a loop file: what a lease, a return and a clone of it cost. Needs root, because it mounts.

large_template.py [--gigabytes N] [--file-system xfs|btrfs|xfs-without-reflink] [--pg-bin-dir DIR]
Starts a daemon of its own ($PGDIBS_BIN or `pgdibs`) on that file system. Clones share blocks on Postgres 18 and xfs or btrfs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from pgdibs import Client

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))
from daemon_process import TemporaryDaemon

MAKE = {"xfs": ("mkfs.xfs", "-q"), "btrfs": ("mkfs.btrfs", "-q"), "xfs-without-reflink": ("mkfs.xfs", "-q", "-m", "reflink=0")}
POOL = "large"
ROWS_PER_GB = 125_000
"""Rows of 8 kB."""


@contextmanager
def mounted(directory: Path, file_system: str, gigabytes: float) -> Iterator[Path]:
    """A file system in a file that grows as it is used."""
    image, path = directory / "image", directory / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(int(gigabytes * 1e9))
    subprocess.run([*MAKE[file_system], image], check=True)
    subprocess.run(["mount", "-o", "loop", image, path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
        image.unlink()


def used_mb(disk: Path) -> float:
    """What the file system has in use."""
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize / 1e6


def fill(url: str, gigabytes: float) -> None:
    """One table of that size, in parts, with progress."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table bulk (n int primary key, filler text)")
        connection.execute("alter table bulk alter filler set storage plain")
        rows = int(ROWS_PER_GB * gigabytes)
        for start in range(0, rows, ROWS_PER_GB // 2):
            last = min(start + ROWS_PER_GB // 2, rows) - 1
            connection.execute(f"insert into bulk select n, repeat('x', 8000) from generate_series({start}, {last}) n")
            print(f"  {last + 1} of {rows} rows", file=sys.stderr)


def wait_for_ready(client: Client, number: int, seconds: float) -> None:
    """Until the pool has that many ready databases."""
    deadline = time.monotonic() + seconds
    while client.call("GET", f"/v1/pools/{POOL}")["counts"]["ready"] < number:
        if time.monotonic() > deadline:
            raise SystemExit(f"the pool had no {number} ready databases within {seconds:.0f} s")
        time.sleep(0.05)  # the pause between two polls


def cycle(client: Client) -> tuple[float, float, float]:
    """Seconds of acquire, of the first row, and of the return until a clean database stands under the same name."""
    started = time.monotonic()
    with client.lease(POOL, wait_seconds=300) as lease:
        acquired = time.monotonic()
        with psycopg.connect(lease.url, autocommit=True) as session:
            session.execute("delete from bulk where n < 10")
            first = time.monotonic()
            lease.release()
            with client.lease(POOL, wait_seconds=300) as following:
                returned = time.monotonic()
                assert following.database == lease.database, "the pool has one slot"
                with psycopg.connect(following.url) as check:
                    assert check.execute("select count(*) from bulk where n < 10").fetchone() == (10,), "a dirty database"
    return acquired - started, first - acquired, returned - first


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--file-system", choices=MAKE, default="xfs")
    parser.add_argument("--pg-bin-dir", default="/var/cache/pgdibs-dev/postgres-18/bin")
    parser.add_argument("--cycles", type=int, default=10)
    given = parser.parse_args()
    # The daemon makes the first clone only where a copy would fit.
    copies = 2 if given.file_system != "xfs-without-reflink" else 4
    with tempfile.TemporaryDirectory(prefix="pgdibs-large-", dir="/tmp") as name:
        os.chmod(name, 0o755)
        with mounted(Path(name), given.file_system, given.gigabytes * (copies + 1) + 10) as disk:
            measure(given, disk)


def measure(given: argparse.Namespace, disk: Path) -> None:
    """The daemon's life on that disk."""
    os.environ["PGDIBS_PG_BIN_DIR"] = given.pg_bin_dir
    data = disk / "pgdibs"
    data.mkdir(mode=0o711)
    disk.chmod(0o711)
    daemon = TemporaryDaemon(data)
    try:
        os.environ.update(daemon.variables)
        client = Client()
        client.put_pool(POOL, warm=1, spares=2, max=1)
        started = time.monotonic()
        client.ensure_template(POOL, "first", lambda url: fill(url, given.gigabytes))
        print(f"built and sealed in {time.monotonic() - started:.0f} s")
        started = time.monotonic()
        with client.lease(POOL, wait_seconds=300):
            print(f"first lease after {time.monotonic() - started:.1f} s")
        wait_for_ready(client, 1, 300)
        pool = client.call("GET", f"/v1/pools/{POOL}")
        print(
            "template:",
            json.dumps({key: value for key, value in pool["templates"][0].items() if "bytes" in key or "seconds" in key}),
        )
        print("warnings:", json.dumps(client.call("GET", "/v1/status")["server"]["warnings"]))
        figures = []
        for _ in range(given.cycles):
            if given.file_system != "xfs-without-reflink":
                wait_for_ready(client, 1, 300)
            figures.append(cycle(client))
        for what, seconds in zip(("acquire", "first statement", "return until clean"), zip(*figures)):
            print(f"{what}: median {statistics.median(seconds):.3f} s, {min(seconds):.3f} to {max(seconds):.3f}")
        print(f"disk in use: {used_mb(disk):.0f} MB")
    except BaseException:
        print(daemon.tail(), file=sys.stderr)
        raise
    finally:
        daemon.stop()


if __name__ == "__main__":
    main()
