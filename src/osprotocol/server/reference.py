"""The reference of `docs/http-api.md`, made from the description of the API itself."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import to_json

from osprotocol.server.access import GRANTS, Permission
from osprotocol.server.app import api
from osprotocol.server.openapi import ANYWHERE

_ATTRIBUTE = re.compile(r"^    ([a-z_, ]+): (.*(?:\n {8,}.*)*)", re.MULTILINE)
_HOST = "http://127.0.0.1:8321"
_ID = "1kdvdna00385gg99jp65"
_PATH_VALUES = {
    "run_id": _ID, "request_id": f"{_ID}-3", "worker_id": "w1", "token_id": "t1", "name": "publish",
}  # fmt: skip
_BODIES: dict[str, Any] = {
    "start_run": {"workflow": "publish", "input": "Tokyo"},
    "cancel_run": {"reason": "no longer needed"},
    "pause_run": {"reason": "lunch"},
    "fork_run": {"afterStep": "write_draft"},
    "put_gate": {"kind": "approval", "prompt": "Go on?"},
    "approve_request": {"reason": "looks right", "seen": "1:966530ff"},
    "reject_request": {"reason": "not yet"},
    "respond_to_request": {"value": "A title"},
    "approve_run": {"reason": "looks right"},
    "reject_run": {"reason": "not yet"},
    "respond_to_run": {"value": "A title"},
    "steer_many": {"action": "pause", "filter": {"workflow": "publish"}},
    "vote_many": {"action": "approve", "requests": [{"id": f"{_ID}-3"}]},
    "prune_runs": {"olderThan": "2026-01-31T00:00:00Z"},
    "add_user": {"name": "ann", "roles": ["approver"]},
    "change_user": {"roles": ["viewer"]},
    "add_token": {"label": "deploy script"},
}


def reference() -> str:
    """Every path and every shape as Markdown."""
    document = api().state.description()
    lines: list[str] = ["## Paths", ""]
    group = ""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if operation["tags"][0] != group:
                group = operation["tags"][0]
                lines += [f"### {group.capitalize()}", ""]
            lines += _operation(method, path, operation)
    lines += ["## Shapes", "", "Every field that is not marked as required may be left out of a body.", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _shape(name, schema)
    return "\n".join(lines)


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    permission = Permission[operation["x-permission"].upper()]
    roles = [role.value for role in GRANTS if permission in GRANTS[role]]
    who = "everybody, also without a token" if permission is Permission.PUBLIC else ", ".join(roles)
    lines = [f"#### `{method.upper()} {path}`", "", _text(operation["description"]), "", f"Roles: {who}.", ""]
    parameters = [one for one in operation.get("parameters", []) if one["in"] != "path"]
    if parameters:
        lines += ["| Parameter | | |", "|---|---|---|"]
        for one in parameters:
            place = "header" if one["in"] == "header" else "query"
            about = _text(one.get("description", ""))
            lines.append(f"| `{one['name']}` ({place}) | {_type(one['schema'])} | {_cell(about)} |")
        lines.append("")
    body = operation.get("requestBody")
    if body is not None:
        optional = "" if body["required"] else ", may be left out"
        lines += [f"Body: {_type(body['content']['application/json']['schema'])}{optional}.", ""]
    good, bad = [], []
    for status, answer in operation["responses"].items():
        kinds = answer.get("content", {})
        if "application/problem+json" in kinds:
            if answer["description"] in (*ANYWHERE.values(), "`not-signed-in`", "`store`"):
                continue  # docs/http-api.md says them once
            bad.append(f"{status} ({answer['description']})")
        else:
            shapes = [f"`{kind}`" if kind.startswith("text/") else _type(one["schema"]) for kind, one in kinds.items()]
            good.append(f"{status} {' or '.join(shapes) or 'without a body'}")
    lines += [f"Answers: {'; '.join(good)}.", ""]
    if bad:
        lines += [f"Problems: {', '.join(bad)}.", ""]
    return [*lines, "```sh", *_curl(method, path, operation, permission), "```", ""]


def _curl(method: str, path: str, operation: dict[str, Any], permission: Permission) -> list[str]:
    for name, value in _PATH_VALUES.items():
        path = path.replace(f"{{{name}}}", "ann" if path.endswith("/users/{name}") and name == "name" else value)
    words = ["curl"]
    if method != "get":
        words.append(f"-X {method.upper()}")
    if permission is not Permission.PUBLIC:
        words.append('-H "Authorization: Bearer $OSP_TOKEN"')
    if "text/event-stream" in operation["responses"].get("200", {}).get("content", {}):
        words.append('-N -H "Accept: text/event-stream"')
    example = _BODIES.get(operation["operationId"])
    if example is not None:
        words.append(f"-H 'Content-Type: application/json' -d '{to_json(example).decode()}'")
    return [" ".join([*words, f"{_HOST}{path}"])]


def _shape(name: str, schema: dict[str, Any]) -> list[str]:
    text = schema.get("description", "")
    head = text.partition("Attributes:")[0].strip()
    lines = [f"### {_plain(name)}", "", _text(head), ""]
    if "enum" in schema:
        return [*lines, "One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".", ""]
    told = {
        _camel(one.strip()): " ".join(found[2].split())
        for found in _ATTRIBUTE.finditer(text)
        for one in found[1].split(",")
    }
    fields = schema.get("properties", {})
    if not fields:
        return lines
    lines += ["| Field | | |", "|---|---|---|"]
    for field, inner in fields.items():
        required = " (required)" if field in schema.get("required", ()) else ""
        lines.append(f"| `{field}`{required} | {_type(inner)} | {_cell(_text(told.get(field, '')))} |")
    return [*lines, ""]


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _plain(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        kinds = dict.fromkeys(_type(one) for one in schema["anyOf"])
        return " or ".join(kinds)
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        inner = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_type(inner)}"
    found = {"string": "text", "integer": "whole number", "object": "object", "null": "null"}
    kind: str = found.get(schema.get("type", ""), schema.get("type", "any JSON"))
    if schema.get("format") == "date-time":
        kind = "instant"
    bounds = [f"at least {schema['minimum']}"] if "minimum" in schema else []
    bounds += [f"at most {schema['maximum']}"] if "maximum" in schema else []
    bounds += [f"at most {schema['maxLength']} characters"] if "maxLength" in schema else []
    default = schema.get("default")
    bounds += [f"default {to_json(default).decode()}"] if default not in (None, "", [], {}) else []
    return kind + (f" ({', '.join(bounds)})" if bounds else "")


def _plain(name: str) -> str:
    """``Page_Event_`` as people say it."""
    found = re.fullmatch(r"Page_(\w+)_", name)
    return f"Page of {found[1]}" if found else name


def _camel(name: str) -> str:
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part.capitalize() for part in rest)


def _text(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
