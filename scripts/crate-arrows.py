"""Checks the arrows between the crates: what each may depend on, and which of them know which libraries.

crate-arrows.py asks `cargo metadata`; the table is the map of ARCHITECTURE.md. Dependencies of tests are free. No crate turns on
a feature that is for tests, except for its own tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

# The workspace crates that a crate may depend on.
ARROWS: dict[str, set[str]] = {
    "pgdibs-core": set(),
    "pgdibs-api": {"pgdibs-core"},
    "pgdibs": {"pgdibs-api"},
    "pgdibs-failpoint": {"pgdibs-core"},
    "pgdibs-postgres": {"pgdibs-core", "pgdibs-failpoint"},
    "pgdibs-embedded": {"pgdibs-core"},
    "pgdibs-sources": {"pgdibs-core"},
    "pgdibs-server": {
        "pgdibs-api",
        "pgdibs-core",
        "pgdibs-embedded",
        "pgdibs-failpoint",
        "pgdibs-postgres",
        "pgdibs-sources",
    },
    "pgdibs-cli": {"pgdibs", "pgdibs-api", "pgdibs-server"},
    "pgdibs-testing": {"pgdibs", "pgdibs-core", "pgdibs-embedded", "pgdibs-postgres"},
    "pgdibs-bench": {"pgdibs", "pgdibs-core", "pgdibs-embedded", "pgdibs-postgres"},
}
# Libraries that only these crates may know.
ONLY = {
    "sqlx": {"pgdibs-postgres", "pgdibs-testing", "pgdibs-bench"},
    "axum": {"pgdibs-server"},
    "clap": {"pgdibs-server", "pgdibs-cli", "pgdibs-bench"},
    "reqwest": {"pgdibs"},
}
# Libraries that a crate may not know: the core decides without waiting, and has no clock and no randomness.
NEVER = {"pgdibs-core": {"tokio", "serde", "serde_json", "rand"}}
# Features that no release has.
FOR_TESTS = {"armed", "fuzzing"}
# Crates that are not shipped, and may be depended on by tests alone.
NOT_SHIPPED = {"pgdibs-testing", "pgdibs-bench"}


def problems(packages: list[dict[str, Any]]) -> list[str]:
    """What is wrong, a line for each dependency."""
    found = []
    for package in packages:
        crate = package["name"]
        if crate not in ARROWS:
            found.append(f"{crate}: this crate is not on the map; add it to ARCHITECTURE.md and to scripts/crate-arrows.py")
            continue
        for dependency in package["dependencies"]:
            name = dependency["name"]
            if dependency["kind"] == "dev":
                continue
            if name.startswith("pgdibs") and name not in ARROWS[crate]:
                found.append(f"{crate}: may not depend on {name}")
            if name in ONLY and crate not in ONLY[name]:
                found.append(f"{crate}: may not depend on {name}, which only {' and '.join(sorted(ONLY[name]))} may know")
            if name in NEVER.get(crate, set()):
                found.append(f"{crate}: may not depend on {name}: the core has no runtime, no clock and no randomness")
            for feature in FOR_TESTS.intersection(dependency["features"]):
                found.append(f"{crate}: turns on feature `{feature}` of {name}, which is for tests")
        if crate in NOT_SHIPPED and package["publish"] != []:
            found.append(f"{crate}: is never shipped, so its manifest says `publish = false`")
    return found


def main() -> int:
    """Checks the workspace."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"]
    answer = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    packages = json.loads(answer.stdout)["packages"]
    found = problems(packages)
    print("\n".join(found) if found else f"{len(packages)} crates, and their arrows go one way")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
