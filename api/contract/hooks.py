"""The schemathesis hooks for pgdibs: they keep requests cheap, and check the answers about ended leases.

They only replace valid values by other valid values; values that are invalid on purpose stay invalid.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import UseAfterFree, use_after_free

# A few pools and templates instead of thousands. scripts/contract-test.sh makes the last pool before the run, with the last
# template, so that acquires succeed. A daemon gives an abandoned build up after a minute; a run uses fewer than 16 in that time.
NAMES = {
    "pool": (re.compile(r"[a-z_][a-z0-9_]{0,39}"), ("contract_0", "contract_1", "contract_2", "contract")),
    "fingerprint": (re.compile(r"[^\0]{1,200}"), (*(f"v{number}" for number in range(16)), "prepared")),
    # The valid names are configuration, and so not in the document.
    "via": (re.compile(r".{1,200}", re.DOTALL), ("default",)),
}
# The largest number that a request may ask for.
MOST = {"warm": 2, "max": 4, "spares": 1, "workers": 2, "aliases": 2, "wait_seconds": 0.05}
# A missing extension or role makes every later build of the pool fail.
LISTS = {"extensions": "citext", "roles": "contract_reader"}
WAITS = ("putTemplate", "resetLease", "acquireLease", "acquireLeases")
CHANGES_A_POOL = ("putPool", "deletePool", "deleteTemplate")
OPERATION_OF_A_LIVE_LEASE = ("renewLease", "resetLease", "keepDatabase")


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """The document for a daemon with a token, where only probes work without one."""
    raw_schema["security"] = [way for way in raw_schema["security"] if way]


def operation_of(case: schemathesis.Case) -> str:
    return str(case.operation.definition.raw.get("operationId"))


def cheap(name: str, value: Any, spare_prepared: bool = False) -> Any:
    """The value, or another valid one that costs the daemon little; the same in each run."""
    chance = zlib.crc32(str(value).encode(errors="replace")) % 24
    if name in NAMES and isinstance(value, str):
        valid, names = NAMES[name]
        if not valid.fullmatch(value) or (value in names and not (spare_prepared and value == names[-1])):
            return value
        # Most names become the prepared one; unusual fingerprints stay now and then.
        if spare_prepared or chance % 4 == 0:
            return value if name == "fingerprint" and chance == 0 else names[chance % (len(names) - 1 or 1)]
        return names[-1]
    if name in MOST and type(value) in (int, float) and 0 <= value <= 1000:
        return min(value, MOST[name])
    if name in LISTS and isinstance(value, list) and value and all(isinstance(one, str) for one in value) and chance % 4:
        return [LISTS[name]]
    if isinstance(value, dict):
        return {key: cheap(key, one, spare_prepared) for key, one in value.items()}
    return [cheap("", one, spare_prepared) for one in value] if isinstance(value, list) else value


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Makes the request cheap, and keeps the prepared pool and template."""
    operation = operation_of(case)
    for name, value in (case.path_parameters or {}).items():
        case.path_parameters[name] = cheap(name, value, operation in CHANGES_A_POOL)
    for name, value in (case.query or {}).items():
        case.query[name] = cheap(name, value)
    if operation == "streamEvents" and str((case.query or {}).get("follow", True)).lower() == "true":
        # Otherwise the answer does not end.
        case.query = {**(case.query or {}), "follow": "false"}
    if operation in WAITS and isinstance(case.body, dict) and case.body.get("wait_seconds") is None:
        case.body["wait_seconds"] = MOST["wait_seconds"]
    elif operation in WAITS and not isinstance(case.body, (str, bytes, list, dict, int, float, type(None))):
        case.body, case.media_type = {"wait_seconds": MOST["wait_seconds"]}, "application/json"
    if isinstance(case.body, dict):
        case.body = cheap("", case.body)
        warm, most = case.body.get("warm"), case.body.get("max")
        if type(warm) is int and type(most) is int and most >= 1:
            case.body["warm"] = min(warm, most)
        if operation == "reportRun" and case.body.get("pool") is None:
            # Only a run that has leased or announced need not name its pool.
            case.body["pool"] = NAMES["pool"][1][-1]


class WrongAnswer(Failure):
    """An answer that contradicts a rule of the contract that is not in the document."""


def fail(case: schemathesis.Case, title: str, message: str) -> None:
    raise WrongAnswer(operation=case.operation.label, title=title, message=message)


@schemathesis.check
def unavailable_says_when(ctx: CheckContext, response: Response, case: schemathesis.Case) -> None:
    """A 503 has `Retry-After` and one of the codes for a retry; no other status but 202 has `Retry-After`."""
    retry = response.headers.get("retry-after")
    code = response.json().get("code") if response.status_code == 503 else None
    retried = ("pool_exhausted", "template_building", "server_unavailable", "disk_floor", "machine_busy")
    if not (retry and code in retried if response.status_code == 503 else not retry or response.status_code == 202):
        fail(case, "Retry-After is not where it belongs", f"{response.status_code} {code} has Retry-After {retry}")


def says_ended(case: schemathesis.Case, response: Response) -> bool:
    """Whether the answer about a deleted object says that it has ended. The daemon remembers leases for a day, and drops
    databases after its answer; a deleted object must not look live."""
    answer = response.json()
    operation = operation_of(case)
    if operation == "getLease":
        return answer["state"] != "live" and not {"url", "password", "user"} & answer.keys()
    if operation == "getPool":
        return answer["dropping"] is True
    return operation == "getTemplate" and answer["state"] in ("retiring", "failed")


@schemathesis.check
def use_after_free_except_ended(ctx: CheckContext, response: Response, case: schemathesis.Case) -> bool | None:
    """`use_after_free`, which expects a 404, except for answers that say that the object has ended."""
    try:
        return use_after_free(ctx, response, case)
    except UseAfterFree:
        if says_ended(case, response):
            return None
        raise


_released: set[str] = set()


@schemathesis.check
def ended_leases_stay_ended(ctx: CheckContext, response: Response, case: schemathesis.Case) -> None:
    """After its release no request renews, resets, keeps or opens a lease."""
    operation, lease = operation_of(case), str((case.path_parameters or {}).get("id", ""))
    if operation == "releaseLease" and response.status_code == 204:
        _released.add(lease)
    elif operation in OPERATION_OF_A_LIVE_LEASE and lease in _released and response.status_code < 400:
        fail(case, "An ended lease was served", f"lease {lease} was released, and {operation} answered {response.status_code}")
