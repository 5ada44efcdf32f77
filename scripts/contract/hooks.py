"""What schemathesis has to know about pgdibs: what is cheap to ask for, and what an ended lease may answer.

Values are only changed from one that is valid to another that is: what is wrong on purpose stays wrong.
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

# Made by ../contract-test.py before the run, with a sealed template.
POOL = "contract"
FINGERPRINT = "prepared"
POOLS = ("contract_0", "contract_1", "contract_2", POOL)
# More than are tried within the minute that an abandoned build takes to be lost.
FINGERPRINTS = (*(f"v{number}" for number in range(16)), FINGERPRINT)
POOL_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
LONGEST_WAIT_SECONDS = 0.05
MOST = {"warm": 2, "max": 4, "spares": 1, "workers": 2, "aliases": 2}
WAITS_WITHOUT_A_BODY = ("putTemplate", "resetLease")
OPERATION_OF_A_LIVE_LEASE = ("renewLease", "resetLease", "keepDatabase")


def one_in(value: str, count: int) -> bool:
    """Whether chance, drawn from the value itself, falls on it: the same in each run."""
    return zlib.crc32(value.encode(errors="replace")) % count == 0


def cheap_pool(name: Any, keep: bool) -> Any:
    """A few pools in place of thousands, most often the one that has a template."""
    if not isinstance(name, str) or not POOL_NAME.fullmatch(name) or name in POOLS:
        return name
    return POOLS[zlib.crc32(name.encode()) % 3] if keep or one_in(name, 4) else POOL


def cheap_fingerprint(text: Any, keep: bool) -> Any:
    """A few templates in place of thousands; those with strange names are left as they are."""
    if not isinstance(text, str) or not 1 <= len(text) <= 200 or "\0" in text or text in FINGERPRINTS or one_in(text, 8):
        return text
    return FINGERPRINTS[zlib.crc32(text.encode(errors="replace")) % 16] if keep or one_in(text, 3) else FINGERPRINT


def cheap_number(value: Any, most: float, longest: float) -> Any:
    """A small number in place of a large one, when the large one is allowed."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= longest:
        return value
    return min(value, most)


def cheap_wish(wish: Any) -> None:
    """Bounds what one body can ask for."""
    if not isinstance(wish, dict):
        return
    if "pool" in wish:
        wish["pool"] = cheap_pool(wish["pool"], keep=False)
    if "fingerprint" in wish:
        wish["fingerprint"] = cheap_fingerprint(wish["fingerprint"], keep=False)
    # Which names there are is configuration, and so not in the document.
    via = wish.get("via")
    if isinstance(via, str) and 1 <= len(via) <= 200:
        wish["via"] = "default"
    for name, most in MOST.items():
        if name in wish:
            wish[name] = cheap_number(wish[name], most, 100 if name == "aliases" else 1000)
    if {"warm", "max"} <= wish.keys() and all(type(wish[name]) is int for name in ("warm", "max")):
        wish["warm"] = min(wish["warm"], max(wish["max"], 0)) if wish["max"] >= 1 else wish["warm"]
    # One that does not exist makes every later build of that pool fail.
    for name, plain in (("extensions", "citext"), ("roles", "contract_reader")):
        given = wish.get(name)
        if isinstance(given, list) and given and all(isinstance(one, str) for one in given) and not one_in(str(given), 4):
            wish[name] = [plain]
    for inner in wish.get("leases", []) if isinstance(wish.get("leases"), list) else []:
        cheap_wish(inner)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Makes the request one that costs little."""
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
        cheap_wish(case.body)
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
    """Counts what was asked and how it was answered."""
    operation = case.operation.definition.raw.get("operationId")
    _answers[f"{operation} {response.status_code}"] += 1


def write_answers() -> None:
    """Tells the script that started us."""
    if path := os.environ.get("CONTRACT_ANSWERS"):
        Path(path).write_text("".join(f"{count} {what}\n" for what, count in sorted(_answers.items())), encoding="utf-8")


atexit.register(write_answers)


class EndedLeaseServed(Failure):
    """A lease that was given back answered as if it were held."""


class UnavailableSaysNothing(Failure):
    """A 503 that does not say why, or when to try again."""


@schemathesis.check
def unavailable_says_when(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """A 503 is a problem with one of the codes that may be tried again, and with `Retry-After`; nothing else has one but 202."""
    retry = response.headers.get("retry-after")
    if response.status_code == 503:
        code = response.json().get("code")
        said = code in ("pool_exhausted", "template_building", "server_unavailable", "disk_floor", "machine_busy") and retry
    else:
        code = None
        said = not retry or response.status_code == 202
    if not said:
        raise UnavailableSaysNothing(
            operation=case.operation.label,
            title="Retry-After is not where it belongs",
            message=f"{response.status_code} {code} has Retry-After {retry}",
        )
    return None


_released: set[str] = set()


def is_told(case: schemathesis.Case, response: Response) -> bool:
    """Whether the answer about something that was deleted says that it is over. Leases are remembered for a day, and databases go
    behind the answer; what was deleted must not look alive."""
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
def use_after_free_told(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """`use_after_free`, which expects a 404, with the one way out that our contract knows."""
    try:
        return use_after_free(ctx, response, case)
    except UseAfterFree:
        if is_told(case, response):
            return None
        raise


@schemathesis.check
def ended_leases_stay_ended(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """After its release a lease is not renewed, reset, kept or opened by anybody, ever."""
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
