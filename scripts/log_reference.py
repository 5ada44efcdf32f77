"""Writes the table of the other lines in docs/logging.md, from the calls of `tracing` in the source of the daemon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs/logging.md"
HEADER = "| example | from |\n|---|---|\n"
LEVELS = ("error", "warn", "info", "debug", "trace")
CALL = re.compile(r"tracing::(error|warn|info|debug|trace)!\(")
TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# A field, or a value that stands in a message, as it may look.
EXAMPLES = {
    "address": "127.0.0.1:5432",
    "architecture": "x86_64",
    "attempts": "3",
    "bound": "127.0.0.1:7432",
    "build_rate_seconds": "60",
    "cause": "index out of bounds: the len is 3 but the index is 3",
    "check": "fsync",
    "code": "pool_exhausted",
    "count": "2",
    "database": "myapp_test_gw0",
    "databases": "3",
    "deleted": "1",
    "detail": "connection refused (127.0.0.1:5432)",
    "directories": "base/16397",
    "error": "connection refused (127.0.0.1:5432)",
    "event": "lease_granted",
    "due": "3",
    "fast": "12",
    "fingerprint": "4f2a9c",
    "first": "VACUUM of orders: canceling statement due to lock timeout (55P03)",
    "fitting": "896",
    "floor_mib": "1024",
    "free_mib": "512",
    "gid": "two_phase_7",
    "holder": "ci-7",
    "id": "01920000-0000-0000-0000-000000000000",
    "idle_seconds": "900",
    "instance": "1804289383",
    "kind": "event trigger",
    "lack": "max_locks_per_transaction is low: a drop of myapp_test needs 900 locks, the server has 640",
    "left": "2",
    "limit": "896",
    "log": "/var/lib/pgdibs/server.log",
    "login": "pgdibs_l_31",
    "MAX": "1024",
    "message": "password authentication failed for user pgdibs (28P01)",
    "moved": "myapp_test_moved_7",
    "name": "audit_ddl",
    "names": "pgdibs_l_31",
    "oid": "16397",
    "open": "512",
    "owner": "pgdibs_owner_myapp_test",
    "panic": "index out of bounds",
    "path": "/v1/leases",
    "pid": "4312",
    "process": "4313",
    "pool": "myapp_test",
    "port": "5432",
    "progress": "running initdb",
    "reason": "its template is not the current one",
    "role": "pgdibs",
    "roles": "app_reader",
    "seconds": "0.041",
    "sentence": "fsync = on, where a server for tests wants off",
    "status": "201",
    "step": "Drop { database: DatabaseId(30) }",
    "steps": "psql migrations/001_init.sql",
    "template": "4f2a9c",
    "ticket": "31",
    "undid": "disabled",
    "url": "http://127.0.0.1:7432",
    "user": "postgres",
    "version": "17.6",
    "what": "1 subscription",
    "why": "out of shared memory (53200)",
}
# The same in the lines that begin like this.
BY_LINE = {
    "answered": {"seconds": "0.004"},
    "cannot compare collation": {"sentence": "permission denied for table pg_collation (42501)"},
    "cannot drop closed login": {
        "why": "role cannot be dropped because some objects depend on it (2BP01)",
        "what": "1 object in database reports",
    },
    "cannot read the events": {"error": "EOF while parsing a list at line 1 column 7990"},
    "cannot close login": {"sentence": "permission denied (42501)"},
    "cannot drop login": {"sentence": "role cannot be dropped because some objects depend on it (2BP01)"},
    "cannot drop role": {"sentence": "role cannot be dropped because some objects depend on it (2BP01)"},
    "copying files from now on": {"why": "could not clone file: Operation not supported (58030)"},
    "database is blocked": {"why": "Drop: database is being accessed by other users (55006)"},
    "delaying the build": {"why": "the inputs changed 10 times in an hour; the next build begins in 240 s"},
    "ended tenant session": {"why": "it blocked a drop for 5 s"},
    "{error}": {"error": "cannot listen on 127.0.0.1:7432: address already in use; choose another address"},
    "leases of a pool open nothing": {"why": "the server refuses their logins (28000): no pg_hba.conf entry"},
    "request failed inside": {"cause": "cache lookup failed for type 0 (XX000)"},
    "removed database": {"reason": "it was dropped externally"},
    "retired a database that was never leased": {"reason": "a session was in it before it was leased"},
    "rolled back prepared transaction: {WHY}": {"WHY": "it held a lock on the database, which prevents its drop"},
    "skipped a step": {"why": "the database is leased"},
    "tenant session still there": {"why": "it blocked a drop for 5 s"},
    "this process did not run": {"seconds": "41.2"},
    "cancelled a clone": {"reason": "its template is retired"},
    "the server's clock was set": {"seconds": "3600.0"},
}


def arguments(source: str, begin: int) -> list[str]:
    """The arguments of the call whose parenthesis opens before `begin`."""
    found, depth, start, position = [], 0, begin, begin
    while depth >= 0:
        if text := TEXT.match(source, position):
            position = text.end()
            continue
        letter = source[position]
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0 or (depth == 0 and letter == ","):
            found.append(source[start:position].strip())
            start = position + 1
        position += 1
    return [each for each in found if each]


def value(name: str, given: dict[str, str]) -> str:
    """An example of a field, or of a value in a message."""
    if name in given or name in EXAMPLES:
        return given.get(name) or EXAMPLES[name]
    raise SystemExit(f"scripts/log_reference.py has no example of `{name}`: add one to EXAMPLES")


def example(level: str, given: list[str]) -> str:
    """The line as text without its time."""
    place = next((number for number, each in enumerate(given) if each.startswith('"')), len(given))
    message = TEXT.match(given[place]).group(1) if place < len(given) else ""  # type: ignore[union-attr]
    message = re.sub(r"\\\n\s*", "", message).replace('\\"', '"')
    more = [re.split(r"[.(:]+", each)[-2 if each.endswith(")") else -1].strip(")&") for each in given[place + 1 :]]
    special = next((values for begin, values in BY_LINE.items() if message.startswith(begin)), {})
    named = dict(re.split(r"\s*=\s*", each, maxsplit=1) for each in given[place + 1 :] if re.match(r"\w+\s*=\s", each))

    def filled(found: re.Match[str]) -> str:
        name = found.group(1) or (more.pop(0) if more else "")
        return value(name, special) if name in EXAMPLES or name in special else value(named.get(name, name), special)

    message = re.sub(r"\{(\w*)[^}]*\}", filled, message)
    fields = [re.split(r"\s*=\s*", each.lstrip("?%"), maxsplit=1) for each in given[:place] if not each.startswith("target:")]
    texts = [f"{name.split('.')[-1]}={quoted(value(name.split('.')[-1], special), each)}" for each in fields for name in each[:1]]
    return " ".join([level.upper(), message, *texts])


def quoted(text: str, field: list[str]) -> str:
    """The value as the log has it: text in quotes unless the call displays it."""
    is_displayed = field[0] in ("error", "step") or (len(field) > 1 and field[1].startswith(("%", "?")))
    return text if is_displayed or re.fullmatch(r"[\d.]+", text) else f'"{text}"'


def calls() -> Iterator[tuple[str, str, str]]:
    """The level, the example and the file of each call, outside of tests."""
    for path in sorted((REPOSITORY / "crates").glob("pgdibs-*/src/**/*.rs")):
        if "tests" in path.parts or path.stem == "tests" or "pgdibs-testing" in path.parts:
            continue
        source = path.read_text(encoding="utf-8").split("#[cfg(test)]\nmod tests {")[0]
        for call in CALL.finditer(source):
            crate, _, *rest = path.relative_to(REPOSITORY / "crates").parts
            yield call.group(1), example(call.group(1), arguments(source, call.end())), "/".join([crate, *rest])


def cell(text: str) -> str:
    """The text as code in a table."""
    text = text.replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def page(text: str) -> str:
    """The page with the current table."""
    head, rest = text.split(HEADER)
    tail = rest[rest.index("\n\n") :] if "\n\n" in rest else "\n"
    rows = sorted(set(calls()), key=lambda row: (LEVELS.index(row[0]), row[2], row[1]))
    return head + HEADER + "\n".join(f"| {cell(line)} | {file} |" for _, line, file in rows) + tail


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
