"""What the pytest plugin costs at start-up: at rest (goal: under 5 ms), and from load to usable URL when warm (under 50 ms).

start_up.py [--rounds N]: needs a daemon at PGDIBS_URL; `scripts/with-daemon.py .venv/bin/python` before it gives it one.
Runs with and without take turns, so that a busy machine slows both; medians, and the ratio of each pair of medians.
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

from pgdibs import Client

AT_REST_GOAL_MS = 5.0
TO_URL_GOAL_MS = 50.0
PLUGIN = ["-p", "pgdibs.pytest_plugin"]
IMPORT = """
import time, pytest
started = time.perf_counter()
import pgdibs.pytest_plugin
print((time.perf_counter() - started) * 1000)
"""
CONFTEST = """
import os, time, pgdibs.pytest_plugin
if "@127.0.0.1:1/" not in os.environ.get("DATABASE_URL", "@127.0.0.1:1/"):
    with open(f"took-{os.getpid()}", "w") as file:
        file.write(str((time.time() - pgdibs.pytest_plugin.LOADED_AT) * 1000))
"""
POOL = "bench_start_up"


def run_pytest(directory: Path, *arguments: str) -> float:
    """The wall time of one pytest, in milliseconds."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    started = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return (time.perf_counter() - started) * 1000


def import_once() -> float:
    """How long a process that has pytest already takes to import the plugin, in milliseconds."""
    done = subprocess.run([sys.executable, "-c", IMPORT], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def to_url(directory: Path, *arguments: str) -> list[float]:
    """From the load of the plugin until conftest.py sees the leased URL, in milliseconds, of each process that got one."""
    run_pytest(directory, *PLUGIN, *arguments)
    took = []
    for file in directory.glob("took-*"):
        took.append(float(file.read_text()))
        file.unlink()
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each is run (default 15)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "conftest.py").write_text(CONFTEST)
        (directory / "test_it.py").write_text(
            "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_it(n):\n    pass\n"
        )
        (directory / "pytest.ini").write_text("[pytest]\n")
        run_pytest(directory)
        without, at_rest, imports = [], [], []
        for _ in range(rounds):
            imports.append(import_once())
            without.append(run_pytest(directory))
            at_rest.append(run_pytest(directory, *PLUGIN))
        print(f"at rest: import of the plugin {show(imports)} (goal: under {AT_REST_GOAL_MS:.0f} ms)")
        print(f"at rest: pytest without {show(without)}, with {show(at_rest)}, {ratio(at_rest, without)}")

        settings = f"[pytest]\npgdibs_pool = {POOL}\npgdibs_env = DATABASE_URL\n"
        (directory / "pytest.ini").write_text(settings)
        client = Client()
        client.put_pool(POOL, warm=4, spares=4, max=8)
        client.ensure_template(POOL, "empty", lambda url: None)
        to_url(directory)
        alone, workers, with_lease = [], [], []
        for _ in range(rounds):
            alone += to_url(directory)
            workers += to_url(directory, "-p", "xdist", "-n2")
            with_lease.append(run_pytest(directory, *PLUGIN))
            for file in directory.glob("took-*"):
                file.unlink()
        print(f"warm: plugin load to usable URL, alone {show(alone)} (goal: under {TO_URL_GOAL_MS:.0f} ms)")
        print(f"warm: plugin load to usable URL, worker of -n2 {show(workers)} (goal: under {TO_URL_GOAL_MS:.0f} ms)")
        print(f"warm: pytest with a lease {show(with_lease)}, {ratio(with_lease, without)} of pytest without the plugin")
        client.call("DELETE", f"/v1/pools/{POOL}?force=true")
        client.close()


def show(times: list[float]) -> str:
    """The median and the spread, in milliseconds."""
    return f"{statistics.median(times):.1f} ms (min {min(times):.1f}, max {max(times):.1f}, {len(times)} runs)"


def ratio(times: list[float], of: list[float]) -> str:
    """How many times the median."""
    return f"x{statistics.median(times) / statistics.median(of):.2f}"


if __name__ == "__main__":
    main()
