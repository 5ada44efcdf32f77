"""Writes docs/http.md by api/http.md.j2 from api/openapi.json, the list of codes and the golden answers beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

REPOSITORY = Path(__file__).resolve().parent.parent
API = REPOSITORY / "api"
PAGE = REPOSITORY / "docs/http.md"
LONGEST_EXAMPLE = 32
# The heading of each group of calls, by their paths; the first that matches.
GROUPS = {
    "Pools": r"/v1/pools(/\{pool\})?$",
    "Templates": r"/v1/pools/\{pool\}/templates",
    "Leases": r"/v1/leases",
    "Runs": r"/v1/runs",
    "Databases": r"/v1/databases",
    # A new prefix needs a row: there is no rest.
    "Watching": r"/(|v1/status|v1/events|livez|readyz|healthz|metrics|openapi.json)$",
}
# Patterns with a plain description.
IN_WORDS = {
    r"^[^\u0000-\u001f\u007f-\u009f]*$": "no control characters",
    r"^[^\u0000]*$": "no NUL",
    r"^(?!pg_|public$|none$)[^\u0000]*$": "not `pg_…`, `public` or `none`",
}
LIMITS = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
    ("minProperties", "maxProperties", " entries"),
)


def read(name: str) -> Any:
    return json.loads((API / name).read_text(encoding="utf-8"))


def schema_name(reference: str) -> str:
    return reference.rsplit("/", 1)[1]


class Page:
    """The page of one document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def resolve(self, value: dict[str, Any]) -> dict[str, Any]:
        """The target of a `$ref`."""
        while "$ref" in value:
            kind, name = value["$ref"].split("/")[2:]
            value = self.document["components"][kind][name]
        return value

    def type_of(self, schema: dict[str, Any]) -> str:
        """`integer, 1 to 3600`: the type with its rules."""
        if "oneOf" in schema:
            null_last = sorted(schema["oneOf"], key=lambda each: bool(each.get("type") == "null"))
            return " or ".join(map(self.type_of, null_last))
        schema = self.resolve(schema)
        kinds = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type", "any")]
        text = " or ".join(kinds)
        if "enum" in schema:
            text = " or ".join(f"`{json.dumps(each)}`" for each in schema["enum"] if each is not None)
        if "array" in kinds and "items" in schema:
            reference = schema["items"].get("$ref")
            if reference and "oneOf" in self.resolve(schema["items"]):
                return "array: " + self.type_of(self.resolve(schema["items"]))
            text = f"array of {schema_name(reference) if reference else self.type_of(schema['items'])}"
        if isinstance(values := schema.get("additionalProperties"), dict):
            text = f"object, each value {schema_name(values['$ref']) if '$ref' in values else self.type_of(values)}"
        if schema.get("format", "int32") not in ("int32", "int64", "double"):
            text += f" ({schema['format']})"
        if pattern := schema.get("pattern"):
            bare = pattern.removeprefix("^").removesuffix("$")
            text += f", {IN_WORDS.get(pattern, f'`{bare}`')}"
        for low, high, unit in LIMITS:
            if high in schema:
                text += f", {schema.get(low, 0)} to {schema[high]}{unit}"
            elif schema.get(low, 0) > 0:
                text += f", at least {schema[low]}{unit}"
        return text.replace("|", "\\|")

    def direct(self, response: dict[str, Any]) -> list[str]:
        """The name of the schema of a response, if it has one."""
        content = self.resolve(response).get("content", {}).values()
        return [schema_name(media["schema"]["$ref"]) for media in content if "$ref" in media["schema"]][:1]

    def example(self, method: str, path: str) -> str:
        """The request and the answer of the first golden file of a call, if it is short enough."""
        pattern = re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(path))
        for file in sorted(API.glob("*.json")):
            golden = read(file.name)
            request = golden.get("request", {})
            called = request.get("path", "").partition("?")[0]
            if request.get("method", "").lower() != method or golden["status"] >= 300 or not re.fullmatch(pattern, called):
                continue
            body = json.dumps(request["body"]) if request.get("body") else ""
            answer = json.dumps(golden["body"], indent=2) if golden.get("body") else ""
            head = f"{method.upper()} {called} {body}".rstrip()
            return f"{head}\n\n{golden['status']}\n{answer}" if answer.count("\n") <= LONGEST_EXAMPLE else ""
        return ""

    def operations(self, group: str) -> Iterator[dict[str, Any]]:
        """The calls of a group."""
        for path, item in self.document["paths"].items():
            if group == next(name for name, pattern in GROUPS.items() if re.match(pattern, path)):
                for method in [method for method in ("get", "put", "post", "delete") if method in item]:
                    parameters = item.get("parameters", []) + item[method].get("parameters", [])
                    more = {"method": method, "path": path, "parameters": parameters, "example": self.example(method, path)}
                    yield {**item[method], **more}

    def reachable(self, value: Any) -> set[str]:
        """The names of all objects in answers that a part of the document refers to."""
        if not isinstance(value, (dict, list)):
            return set()
        found = set().union(*map(self.reachable, value.values() if isinstance(value, dict) else value))
        if isinstance(value, dict) and "/schemas/" in value.get("$ref", ""):
            schema = self.resolve(value)
            found |= ({schema_name(value["$ref"])} if "properties" in schema else set()) | self.reachable(schema)
        return found

    def text(self) -> str:
        """The page. Its template makes more empty lines than needed."""
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
        environment.filters.update(type=self.type_of, resolve=self.resolve, direct=self.direct, schema_name=schema_name)
        groups = {group: list(self.operations(group)) for group in GROUPS}
        responses = [
            response
            for calls in groups.values()
            for call in calls
            for code, response in call["responses"].items()
            if code != "default"
        ]
        # An event is the text of a field, which a schema cannot refer to.
        names = sorted(self.reachable(responses) | {"Event"})
        answers = {name: self.document["components"]["schemas"][name] for name in names}
        template = environment.from_string((API / "http.md.j2").read_text(encoding="utf-8"))
        text = template.render(groups=groups, answers=answers, problems=read("problems.json")["problems"])
        return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(Page(read("openapi.json")).text(), encoding="utf-8")
