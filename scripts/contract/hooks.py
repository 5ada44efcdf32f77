"""The schemathesis hooks for pgdibs: they keep requests cheap, and check the answers about ended leases.

They only replace valid values by other valid values; values that are invalid on purpose stay invalid.
"""

from __future__ import annotations

import atexit
import os
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import UseAfterFree, use_after_free

# ../contract-test.py makes this pool before the run, with a sealed template.
POOL = "contract"
FINGERPRINT = "prepared"
POOLS = ("contract_0", "contract_1", "contract_2", POOL)
# More than a run uses in the minute after which an abandoned build is lost.
FINGERPRINTS = (*(f"v{number}" for number in range(16)), FINGERPRINT)
POOL_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
LONGEST_WAIT_SECONDS = 0.05
MOST = {"warm": 2, "max": 4, "spares": 1, "workers": 2, "aliases": 2}
WAITS_WITHOUT_A_BODY = ("putTemplate", "resetLease")
OPERATION_OF_A_LIVE_LEASE = ("renewLease", "resetLease", "keepDatabase")


def one_in(value: str, count: int) -> bool:
    """True for one in `count` values, by a hash of the value, so that it is the same in each run."""
    return zlib.crc32(value.encode(errors="replace")) % count == 0


def cheap_pool(name: Any, keep: bool) -> Any:
    """One of a few pools instead of thousands, most often the one with a template."""
    if not isinstance(name, str) or not POOL_NAME.fullmatch(name) or name in POOLS:
        return name
    return POOLS[zlib.crc32(name.encode()) % 3] if keep or one_in(name, 4) else POOL


def cheap_fingerprint(text: Any, keep: bool) -> Any:
    """One of a few templates instead of thousands; unusual names stay."""
    if not isinstance(text, str) or not 1 <= len(text) <= 200 or "\0" in text or text in FINGERPRINTS or one_in(text, 8):
        return text
    return FINGERPRINTS[zlib.crc32(text.encode(errors="replace")) % 16] if keep or one_in(text, 3) else FINGERPRINT


def cheap_number(value: Any, most: float, longest: float) -> Any:
    """A small number instead of a large valid one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= longest:
        return value
    return min(value, most)


def cheap_body(body: Any) -> None:
    """Bounds the resources that one body can request."""
    if not isinstance(body, dict):
        return
    if "pool" in body:
        body["pool"] = cheap_pool(body["pool"], keep=False)
    if "fingerprint" in body:
        body["fingerprint"] = cheap_fingerprint(body["fingerprint"], keep=False)
    # The valid names are configuration, and so not in the document.
    via = body.get("via")
    if isinstance(via, str) and 1 <= len(via) <= 200:
        body["via"] = "default"
    for name, most in MOST.items():
        if name in body:
            body[name] = cheap_number(body[name], most, 100 if name == "aliases" else 1000)
    if {"warm", "max"} <= body.keys() and all(type(body[name]) is int for name in ("warm", "max")):
        body["warm"] = min(body["warm"], max(body["max"], 0)) if body["max"] >= 1 else body["warm"]
    # A missing extension or role makes every later build of the pool fail.
    for name, plain in (("extensions", "citext"), ("roles", "contract_reader")):
        given = body.get(name)
        if isinstance(given, list) and given and all(isinstance(one, str) for one in given) and not one_in(str(given), 4):
            body[name] = [plain]
    for inner in body.get("leases", []) if isinstance(body.get("leases"), list) else []:
        cheap_body(inner)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Makes the request cheap."""
    operation = case.operation.definition.raw.get("operationId")
    changes = operation in ("putPool", "deletePool", "deleteTemplate")
    if case.path_parameters:
        if "pool" in case.path_parameters:
            case.path_parameters["pool"] = cheap_pool(case.path_parameters["pool"], keep=changes)
        if "fingerprint" in case.path_parameters:
            case.path_parameters["fingerprint"] = cheap_fingerprint(
                case.path_parameters["fingerprint"], keep=changes or operation == "putTemplate"
            )
    if operation in ("putPool", "deletePool") and case.path_parameters.get("pool") == POOL:
        case.path_parameters["pool"] = POOLS[0]
    if operation == "deleteTemplate" and case.path_parameters.get("fingerprint") == FINGERPRINT:
        case.path_parameters["fingerprint"] = FINGERPRINTS[0]
    via = (case.query or {}).get("via")
    if isinstance(via, str) and 1 <= len(via) <= 200:
        case.query["via"] = "default"
    if isinstance(case.body, dict):
        cheap_body(case.body)
        if waits(case):
            wait = case.body.get("wait_seconds")
            wait = LONGEST_WAIT_SECONDS if wait is None else wait
            case.body["wait_seconds"] = cheap_number(wait, LONGEST_WAIT_SECONDS, 600)
    elif operation in WAITS_WITHOUT_A_BODY and not isinstance(case.body, (str, bytes, list, int, float, type(None))):
        case.body = {"wait_seconds": LONGEST_WAIT_SECONDS}
        case.media_type = "application/json"


def waits(case: schemathesis.Case) -> bool:
    """Whether the operation's body has a `wait_seconds`."""
    return case.operation.definition.raw.get("operationId") in (*WAITS_WITHOUT_A_BODY, "acquireLease", "acquireLeases")


_answers: Counter[str] = Counter()


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: schemathesis.Case, response: Response) -> None:
    """Counts the answers by operation and status."""
    operation = case.operation.definition.raw.get("operationId")
    _answers[f"{operation} {response.status_code}"] += 1


def write_answers() -> None:
    """Writes the counts for contract-test.py."""
    if path := os.environ.get("CONTRACT_ANSWERS"):
        Path(path).write_text("".join(f"{count} {what}\n" for what, count in sorted(_answers.items())), encoding="utf-8")


atexit.register(write_answers)


class EndedLeaseServed(Failure):
    """A released lease answered as a live one."""


class UnavailableWithoutRetry(Failure):
    """A 503 without a code for a retry, or without `Retry-After`."""


@schemathesis.check
def unavailable_says_when(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """A 503 has `Retry-After` and one of the codes for a retry; no other status but 202 has `Retry-After`."""
    retry = response.headers.get("retry-after")
    if response.status_code == 503:
        code = response.json().get("code")
        is_correct = code in ("pool_exhausted", "template_building", "server_unavailable", "disk_floor", "machine_busy") and retry
    else:
        code = None
        is_correct = not retry or response.status_code == 202
    if not is_correct:
        raise UnavailableWithoutRetry(
            operation=case.operation.label,
            title="Retry-After is not where it belongs",
            message=f"{response.status_code} {code} has Retry-After {retry}",
        )
    return None


_released: set[str] = set()


def says_ended(case: schemathesis.Case, response: Response) -> bool:
    """Whether the answer about a deleted object says that it has ended. The daemon remembers leases for a day, and drops
    databases after its answer; a deleted object must not look live."""
    answer = response.json()
    operation = case.operation.definition.raw.get("operationId")
    if operation == "getLease":
        return answer["state"] != "live" and not {"url", "password", "user"} & answer.keys()
    if operation == "getPool":
        return answer["dropping"] is True
    if operation == "getTemplate":
        return answer["state"] in ("retiring", "failed")
    return False


@schemathesis.check
def use_after_free_except_ended(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """`use_after_free`, which expects a 404, except for answers that say that the object has ended."""
    try:
        return use_after_free(ctx, response, case)
    except UseAfterFree:
        if says_ended(case, response):
            return None
        raise


@schemathesis.check
def ended_leases_stay_ended(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """After its release no request renews, resets, keeps or opens a lease."""
    operation = case.operation.definition.raw.get("operationId")
    lease = str((case.path_parameters or {}).get("id", ""))
    if operation == "releaseLease" and response.status_code == 204:
        _released.add(lease)
    elif operation in OPERATION_OF_A_LIVE_LEASE and lease in _released and response.status_code < 400:
        raise EndedLeaseServed(
            operation=case.operation.label,
            title="An ended lease was served",
            message=f"lease {lease} was released, and {operation} answered {response.status_code}",
        )
    return None
