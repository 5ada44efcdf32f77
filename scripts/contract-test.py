"""Tests the HTTP API of a real daemon with schemathesis: contract-test.py --seconds N | --requests N [--seed N]

Sends random requests, valid and invalid, and chains of them along the links of api/openapi.json. Prints their number; fails on a
500 and on any answer that contradicts the document. Run it with with-daemon.py, whose daemon requires a token.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Optional

REPOSITORY = Path(__file__).resolve().parent.parent
HOOKS = REPOSITORY / "scripts" / "contract"
POOL, FINGERPRINT = "contract", "prepared"
# The answers to a valid request: success, a conflict, an ended lease, a full pool.
EXPECTED = ["2xx", "401", "404", "409", "410", "422", "503"]
# The examples per operation of one run of schemathesis; further runs make the remaining requests.
EXAMPLES = 40
LONGEST_SECONDS = 1200.0


def call(method: str, path: str, body: Any = None) -> Any:
    """One call to the daemon; raises for any answer but a success."""
    request = urllib.request.Request(
        os.environ["PGDIBS_URL"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['PGDIBS_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        text = response.read()
        return json.loads(text) if text else None


def prepare() -> None:
    """Makes a pool with a sealed template, so that acquires succeed."""
    call("PUT", f"/v1/pools/{POOL}", {"warm": 2, "max": 4, "spares": 1})
    path = f"/v1/pools/{POOL}/templates/{FINGERPRINT}"
    build = call("PUT", path, {"holder": "contract-test"})
    if build["state"] != "ready":
        call("POST", f"{path}/seal", {"token": build["build"]["token"]})


def write_inputs(directory: Path) -> tuple[Path, Path]:
    """Writes the document for a daemon with a token, where only probes work without one, and the settings."""
    document = json.loads((REPOSITORY / "api" / "openapi.json").read_text(encoding="utf-8"))
    document["security"] = [way for way in document["security"] if way]
    described = directory / "openapi.json"
    described.write_text(json.dumps(document), encoding="utf-8")
    settings = directory / "schemathesis.toml"
    settings.write_text(
        f"""
request-timeout = 20.0
continue-on-failure = true
[auth.openapi.bearer]
bearer = "${{PGDIBS_TOKEN}}"
[checks]
# hooks.py has this check with the exception of the contract.
use_after_free.enabled = false
# A wait may end without success; hooks.py checks the answer.
not_a_server_error.expected-statuses = ["2xx", "4xx", "503"]
positive_data_acceptance.expected-statuses = {json.dumps(EXPECTED)}
[phases.stateful]
max-steps = 12
# The generation of a lease and the other settings of a pool are not in the document.
[[operations]]
include-operation-id = ["putPool", "resetLease"]
checks.positive_data_acceptance.expected-statuses = {json.dumps([*EXPECTED, "400"])}
""",
        encoding="utf-8",
    )
    return described, settings


def run_once(directory: Path, seed: int, seconds: Optional[int]) -> tuple[int, Counter[str]]:
    """One run of schemathesis; its exit status, and the number of answers of each kind."""
    described, settings = write_inputs(directory)
    answers = directory / "answers"
    answers.unlink(missing_ok=True)
    command = [
        os.environ.get("SCHEMATHESIS", "st"),
        f"--config-file={settings}",
        "run",
        str(described),
        f"--url={os.environ['PGDIBS_URL']}",
        f"--seed={seed}",
        f"--max-examples={EXAMPLES}",
        # The fixed cases of "coverage" alone take as long as a short run.
        f"--phases={'fuzzing,stateful' if seconds else 'coverage,fuzzing,stateful'}",
        "--no-color",
        "--warnings=off",
    ]
    if seconds:
        # With a time limit both phases run until it.
        command.append(f"--max-time={seconds}")
    environment = {
        **os.environ,
        "PYTHONPATH": str(HOOKS),
        "SCHEMATHESIS_HOOKS": "hooks",
        "CONTRACT_ANSWERS": str(answers),
    }
    status = subprocess.run(command, env=environment, cwd=directory, check=False).returncode
    counts: Counter[str] = Counter()
    for line in answers.read_text(encoding="utf-8").splitlines() if answers.exists() else []:
        count, _, what = line.partition(" ")
        counts[what] = int(count)
    return status, counts


def main() -> int:
    """Runs until there are enough requests, or once for so many seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    given = parser.parse_args()
    prepare()
    began = time.monotonic()
    total: Counter[str] = Counter()
    seed = given.seed
    with tempfile.TemporaryDirectory(prefix="pgdibs-contract-") as directory:
        while True:
            status, counts = run_once(Path(directory), seed, given.seconds)
            total += counts
            made = sum(total.values())
            print(f"{made} requests so far, seed {seed}", flush=True)
            if status != 0:
                print(f"again: scripts/contract-test.py --seed {seed}", file=sys.stderr)
                return 1
            if not counts:
                print("schemathesis made no request", file=sys.stderr)
                return 1
            if made >= given.requests or time.monotonic() - began >= LONGEST_SECONDS:
                break
            seed += 1
    failed = {what: count for what, count in total.items() if what.rpartition(" ")[2] == "500"}
    for what, count in sorted(total.items()):
        print(f"  {count:6} {what}")
    seen = {what.rpartition(" ")[0] for what in total}
    print(
        f"{made} requests to {len(seen)} operations in {time.monotonic() - began:.0f} s, {sum(failed.values())} answered with 500"
    )
    call("GET", "/v1/status")
    return 1 if failed or made < given.requests else 0


if __name__ == "__main__":
    sys.exit(main())
