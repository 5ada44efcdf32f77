"""crate-arrows.py names each arrow that goes the wrong way, and lets the others pass."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

arrows = importlib.import_module("crate-arrows")


def package(name: str, dependency: str, *, kind: str | None = None, features: tuple[str, ...] = ()) -> dict[str, Any]:
    found = {"name": dependency, "kind": kind, "features": list(features)}
    return {"name": name, "dependencies": [found], "publish": None}


WRONG = [
    (package("pgdibs-core", "pgdibs-api"), "may not depend on pgdibs-api"),
    (package("pgdibs-server", "pgdibs-cli"), "may not depend on pgdibs-cli"),
    (package("pgdibs-server", "pgdibs-testing"), "may not depend on pgdibs-testing"),
    (package("pgdibs-core", "tokio"), "the core has no runtime"),
    (package("pgdibs-server", "sqlx"), "which only pgdibs-bench and pgdibs-postgres and pgdibs-testing may know"),
    (package("pgdibs-server", "pgdibs-failpoint", features=("armed",)), "feature `armed`"),
    (package("pgdibs-new", "serde"), "not on the map"),
    (package("pgdibs-bench", "pgdibs"), "publish = false"),
]


@pytest.mark.parametrize(("found", "sentence"), WRONG)
def test_arrow_that_goes_the_wrong_way_is_named(found: dict[str, Any], sentence: str) -> None:
    (problem,) = arrows.problems([found])
    assert problem.startswith(f"{found['name']}: ")
    assert sentence in problem


def test_arrows_of_the_map_and_of_tests_pass() -> None:
    allowed = [
        package("pgdibs-server", "pgdibs-core"),
        package("pgdibs-postgres", "pgdibs-testing", kind="dev"),
        package("pgdibs-cli", "pgdibs-failpoint", kind="dev", features=("armed",)),
        package("pgdibs-postgres", "sqlx"),
    ]
    assert arrows.problems(allowed) == []
