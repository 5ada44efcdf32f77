"""The client and the golden files in api/, which the tests of the daemon read too."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted import Reply, Scripted
from support import REPOSITORY

import pgdibs
from pgdibs import errors

API = REPOSITORY / "api"
PROBLEMS: list[dict[str, Any]] = json.loads((API / "problems.json").read_text())["problems"]


def golden(name: str) -> Any:
    """A golden exchange: `request`, `status`, `body`."""
    return json.loads((API / f"{name}.json").read_text())


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem["code"])
def test_each_code_has_its_error_type(problem: dict[str, Any]) -> None:
    name = "".join(word.title() for word in problem["code"].split("_"))
    detail = f"the cause of {problem['code']}"
    error = errors.of_answer(problem["status"], {**problem, "detail": detail})
    assert type(error) is getattr(errors, name)
    assert (error.code, error.status, error.detail) == (problem["code"], problem["status"], detail)
    assert detail in str(error) and problem["code"] in str(error)


def test_codes_are_those_of_the_api() -> None:
    assert set(errors.BY_CODE) == {problem["code"] for problem in PROBLEMS}
    typed = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PgdibsError)}
    assert typed - {errors.PgdibsError, errors.Unreachable} == set(errors.BY_CODE.values())


def test_unknown_code_and_missing_body_are_plain_errors() -> None:
    newer = errors.of_answer(409, {"code": "on_holiday", "detail": "back on Monday"})
    assert type(newer) is errors.PgdibsError and newer.code == "on_holiday" and "back on Monday" in str(newer)
    strange = errors.of_answer(502, None)
    assert type(strange) is errors.PgdibsError and "502" in str(strange)


def test_error_survives_pickle() -> None:
    error = errors.of_answer(410, golden("problem_lease_ended")["body"])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.LeaseEnded
    assert (str(again), again.code, again.status, again.detail) == (str(error), error.code, error.status, error.detail)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem["code"])
def test_call_repeats_exactly_codes_with_retry_after(problem: dict[str, Any], scripted: Scripted) -> None:
    retry_after = None if problem["retry_after_seconds"] is None else "0"
    scripted.replies = [Reply(problem["status"], problem, retry_after), Reply(200, {"fine": True})]
    client = pgdibs.Client(scripted.url)
    if retry_after is None:
        with pytest.raises(errors.BY_CODE[problem["code"]]):
            client.call("GET", "/v1/status")
        assert len(scripted.requests) == 1
    else:
        assert client.call("GET", "/v1/status") == {"fine": True}
        assert len(scripted.requests) == 2


def test_granted_lease_has_all_fields_of_the_answer(scripted: Scripted) -> None:
    exchange = golden("lease_granted")
    scripted.replies = [Reply(exchange["status"], exchange["body"])]
    options = {name: value for name, value in exchange["request"]["body"].items() if name != "pool"}
    lease = pgdibs.Client(scripted.url).lease("app", heartbeat=False, **options)
    for name in (
        *("id", "url", "database", "slot", "host", "port", "user", "password", "generation", "pool", "fingerprint"),
        *("run", "worker", "alias", "waited_seconds", "ttl_seconds", "renew_after_seconds"),
    ):
        assert getattr(lease, name) == exchange["body"][name], name
    assert lease.lost is None
    request = scripted.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/leases")
    assert request.body.items() >= exchange["request"]["body"].items()


def test_calls_send_the_requests_of_golden_files(scripted: Scripted) -> None:
    client = pgdibs.Client(scripted.url)
    granted = golden("lease_granted")["body"]
    lease = pgdibs.Lease(client, granted, heartbeat=False)
    report = golden("run_report")["request"]["body"]
    calls: dict[str, Callable[[], Any]] = {
        "run_put": lambda: client.announce("7f3c", "app", 2),
        "run_delete": lambda: client.end_run("7f3c"),
        "run_report": lambda: client.report_run("7f3c", **report),
        "runs": client.runs,
        "lease_kept": lambda: lease.keep(60, "test_x failed"),
        "lease_reset": lease.reset,
        "leases": client.leases,
        "status": client.status,
        "lease_batch": lambda: client.batch([pgdibs.LeaseRequest("app", worker="gw1")], 10, heartbeat=False),
        "pool_put": lambda: client.put_pool("app", **golden("pool_put")["request"]["body"]),
    }
    for name, call in calls.items():
        exchange = golden(name)
        scripted.requests.clear()
        scripted.replies = [Reply(exchange["status"], exchange["body"])]
        call()
        request, expected = scripted.requests[0], exchange["request"]
        assert (request.method, request.path) == (expected["method"], expected["path"].replace("{id}", granted["id"])), name
        assert contains(request.body, expected["body"]), (name, request.body)
    assert lease.generation == golden("lease_reset")["body"]["generation"] == 2


def contains(value: Any, part: Any) -> bool:
    """Whether `part` is in `value`, field by field; numbers are equal as numbers."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(name in value and contains(value[name], part[name]) for name in part)
    if isinstance(part, list):
        return len(value) == len(part) and all(contains(one, other) for one, other in zip(value, part))
    return bool(value == part)


def test_lease_request_has_only_fields_of_the_api() -> None:
    schemas = json.loads((API / "openapi.json").read_text())["components"]["schemas"]
    names = {name for schema in schemas.values() for name in schema.get("properties", {})}
    request = pgdibs.LeaseRequest("p", "f", "r", "w", "a", "h", 60, True, "v").body()
    assert set(request) <= names and len(request) == 9


def test_modules_parse_with_python_3_9() -> None:
    modules = list(Path(pgdibs.__file__).parent.rglob("*.py"))
    assert len(modules) > 10
    for module in modules:
        ast.parse(module.read_text(), str(module), feature_version=(3, 9))
