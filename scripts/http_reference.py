"""Writes docs/http.md from api/openapi.json, the list of codes and the golden answers beside it; `--check` only compares."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = "docs/http.md"
METHODS = ("get", "put", "post", "delete")
LONGEST_EXAMPLE = 32

GROUPS = (
    ("Pools", r"/v1/pools(/\{pool\})?$"),
    ("Templates", r"/v1/pools/\{pool\}/templates"),
    ("Leases", r"/v1/leases"),
    ("Runs", r"/v1/runs"),
    ("Databases", r"/v1/databases"),
    ("Watching", r""),
)

# Patterns with a plain description.
IN_WORDS = {
    r"^[^\u0000-\u001f\u007f-\u009f]*$": "no control characters",
    r"^[^\u0000]*$": "no NUL",
    r"^(?!pg_|public$|none$)[^\u0000]*$": "not `pg_…`, `public` or `none`",
}

HEAD = """# HTTP reference

<!-- Written by `python3 scripts/http_reference.py` from api/openapi.json. Change that, not this page. -->

A lease in three calls; `PGDIBS_TOKEN` is needed only when the daemon was given one:

```sh
curl -H "Authorization: Bearer $PGDIBS_TOKEN" -H 'Content-Type: application/json' \\
     -d '{"pool": "myapp_test"}' http://127.0.0.1:7432/v1/leases          # 201, with "id" and "url"
curl -H "Authorization: Bearer $PGDIBS_TOKEN" -X POST http://127.0.0.1:7432/v1/leases/$id/renew
curl -H "Authorization: Bearer $PGDIBS_TOKEN" -X DELETE http://127.0.0.1:7432/v1/leases/$id
```

- JSON, UTF-8. Durations are seconds, in fields named `*_seconds`; times are RFC 3339 in UTC. A field that is not known is a 400.
- The token goes into `Authorization: Bearer`, or is the password of HTTP Basic with any user.
- A wait is a long poll: `wait_seconds` in the body. The daemon serves waiters in order of arrival. A client that
  closes its connection stops waiting.
- An error is `application/problem+json` with a `code` from [the list](#codes) and a `detail` that says what to do.
  Repeat the request exactly when the answer has `Retry-After`.
- `run`, `worker` and `alias` together identify the holder: the same three get the lease that they hold, so an acquire may be
  repeated.
- The `Host` header must be loopback or one of `allowed_hosts`; a request from another site is refused. There are no CORS headers.

The same as OpenAPI 3.1: `GET /openapi.json`, or [api/openapi.json](../api/openapi.json).
"""


def resolve(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """The target of a `$ref`."""
    while "$ref" in value:
        found: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def type_of(document: dict[str, Any], schema: dict[str, Any]) -> str:
    """`integer, 1 to 3600`: the type with its rules."""
    if "oneOf" in schema:
        null_last = sorted(schema["oneOf"], key=lambda each: bool(each.get("type") == "null"))
        return " or ".join(type_of(document, each) for each in null_last)
    schema = resolve(document, schema)
    kind = schema.get("type", "any")
    kinds = [str(each) for each in (kind if isinstance(kind, list) else [kind])]
    text = " or ".join(kinds)
    if "enum" in schema:
        text = " or ".join(f"`{json.dumps(each)}`" for each in schema["enum"] if each is not None)
    if "array" in kinds and "items" in schema:
        items = schema["items"]
        text = f"array of {items['$ref'].rsplit('/', 1)[1] if '$ref' in items else type_of(document, items)}"
    if schema.get("format", "int32") not in ("int32", "int64", "double"):
        text += f" ({schema['format']})"
    if "pattern" in schema:
        pattern = schema["pattern"]
        bare = pattern.removeprefix("^").removesuffix("$")
        text += f", {IN_WORDS.get(pattern, f'`{bare}`')}"
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ):
        if high in schema:
            text += f", {schema.get(low, 0)} to {schema[high]}{unit}"
        elif schema.get(low, 0) > 0:
            text += f", at least {schema[low]}{unit}"
    return text.replace("|", "\\|")


def fields(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """A table of the fields of an object."""
    yield "| field | type | default |"
    yield "|---|---|---|"
    for name, value in schema.get("properties", {}).items():
        default = f"`{json.dumps(value['default'])}`" if "default" in value else ""
        if name in schema.get("required", ()):
            default = "required"
        about = f". {value['description'].removesuffix('.')}" if "description" in value else ""
        yield f"| `{name}` | {type_of(document, value)}{about} | {default} |"


def anchor(schema: str) -> str:
    return f"[{schema}](#answer-{schema.lower()})"


def answers(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    """A line for each status; `default` stands for all problems."""
    for status, response in operation["responses"].items():
        if status == "default":
            continue
        content = resolve(document, response).get("content", {})
        schema: dict[str, Any] = next((media["schema"] for media in content.values()), {})
        name = f" {anchor(schema['$ref'].rsplit('/', 1)[1])}" if "$ref" in schema else ""
        retry = " With `Retry-After`." if "Retry-After" in response.get("headers", {}) else ""
        yield f"- **{status}**{name}: {response['description']}{retry}"


def goldens(api: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The first golden file of each method and path."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file in sorted(api.glob("*.json")):
        example = json.loads(file.read_text(encoding="utf-8"))
        if "request" in example and example.get("status", 500) < 300:
            key = (example["request"]["method"].lower(), example["request"]["path"].partition("?")[0])
            found.setdefault(key, example)
    return found


def example_of(method: str, path: str, examples: dict[tuple[str, str], dict[str, Any]]) -> Iterator[str]:
    """The request and the answer of a golden file, if short enough."""
    pattern = re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(path))
    for (verb, called), example in examples.items():
        if verb != method or not re.fullmatch(pattern, called):
            continue
        request = json.dumps(example["request"]["body"], indent=None) if example["request"].get("body") else ""
        answer = json.dumps(example["body"], indent=2) if example.get("body") else ""
        if answer.count("\n") <= LONGEST_EXAMPLE:
            head = f"{method.upper()} {called} {request}".rstrip()
            yield f"```\n{head}\n\n{example['status']}\n{answer}\n```"
        return


def operation_text(
    document: dict[str, Any], path: str, method: str, examples: dict[tuple[str, str], dict[str, Any]]
) -> Iterator[str]:
    """One call: purpose, parameters, answers."""
    item = document["paths"][path]
    operation = item[method]
    yield f"### {method.upper()} {path}"
    yield operation["summary"]
    parameters = [each for each in item.get("parameters", []) + operation.get("parameters", []) if each["in"] == "query"]
    for each in parameters:
        about = f" {each['description']}" if "description" in each else ""
        default = f", default `{json.dumps(each['schema']['default'])}`" if "default" in each["schema"] else ""
        yield f"Query `{each['name']}`: {type_of(document, each['schema'])}{default}.{about}"
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = resolve(document, schema)
        optional = "" if operation["requestBody"].get("required") else " (may be left out)"
        yield f"Body{optional}:" + (f" {body['description']}" if "description" in body else "")
        yield "\n".join(fields(document, body))
        for name, value in body.get("properties", {}).items():
            if "$ref" in value.get("items", {}):
                yield f"Each of `{name}`:"
                yield "\n".join(fields(document, resolve(document, value["items"])))
    yield "\n".join(answers(document, operation))
    yield from example_of(method, path, examples)


def group_of(path: str) -> str:
    return next(name for name, pattern in GROUPS if re.match(pattern, path))


def page(api: Path) -> str:
    """The page."""
    document = json.loads((api / "openapi.json").read_text(encoding="utf-8"))
    examples = goldens(api)
    parts = [HEAD.rstrip()]
    for group, _ in GROUPS:
        paths = [path for path in document["paths"] if group_of(path) == group]
        parts.append(f"## {group}")
        for path in paths:
            for method in METHODS:
                if method in document["paths"][path]:
                    parts.extend(operation_text(document, path, method, examples))
    parts.append("## Answers")
    schemas = document["components"]["schemas"]
    answered = {match for part in parts for match in re.findall(r"\*\*\d+\*\* \[(\w+)\]", part)}
    pending = sorted(answered)
    for name in pending:
        parts.append(f"### Answer {name}")
        if "description" in schemas[name]:
            parts.append(schemas[name]["description"])
        parts.append("\n".join(answer_fields(document, schemas[name], pending)))
    parts.append("## Codes")
    problems = json.loads((api / "problems.json").read_text(encoding="utf-8"))["problems"]
    rows = ["| status | `code` | meaning | try again after |", "|---|---|---|---|"]
    for each in problems:
        retry = each["retry_after_seconds"]
        rows.append(f"| {each['status']} | `{each['code']}` | {each['title']} | {'' if retry is None else f'{retry} s'} |")
    parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def answer_fields(document: dict[str, Any], schema: dict[str, Any], pending: list[str]) -> Iterator[str]:
    """A table of the fields of an answer; adds the named schemas of its fields to `pending`."""
    yield "| field | type |"
    yield "|---|---|"
    for name, value in schema.get("properties", {}).items():
        named = value.get("$ref") or value.get("items", {}).get("$ref")
        if named and "enum" in resolve(document, {"$ref": named}):
            named = None
        text = type_of(document, value)
        if named:
            other = named.rsplit("/", 1)[1]
            if other not in pending:
                pending.append(other)
            text = f"array of {anchor(other)}" if "items" in value else anchor(other)
        inner = value.get("properties") or value.get("items", {}).get("properties")
        if inner:
            text += ": " + ", ".join(f"`{each}`" for each in inner)
        about = f". {value['description'].removesuffix('.')}" if "description" in value else ""
        optional = "" if name in schema.get("required", ()) else " (not always there)"
        yield f"| `{name}` | {text}{about}{optional} |"


def main() -> int:
    """Writes the page, or checks that it is current."""
    current = page(REPOSITORY / "api")
    file = REPOSITORY / PAGE
    if sys.argv[1:] == ["--check"]:
        if file.read_text(encoding="utf-8") != current:
            print(f"{PAGE} is stale: python3 scripts/http_reference.py", file=sys.stderr)
            return 1
        return 0
    file.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
