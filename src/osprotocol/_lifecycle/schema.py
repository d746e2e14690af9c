"""Checking an answer against the JSON Schema of its request, for processes that do not have the type.

Covers what pydantic writes into schemas. What it does not know it lets pass: the worker, which has the type, has the
last word and reopens the request if it refuses the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("minimum", lambda value, bound: value >= bound, "must be at least {}"),
    ("maximum", lambda value, bound: value <= bound, "must be at most {}"),
    ("exclusiveMinimum", lambda value, bound: value > bound, "must be greater than {}"),
    ("exclusiveMaximum", lambda value, bound: value < bound, "must be less than {}"),
    ("multipleOf", lambda value, bound: value % bound == 0, "must be a multiple of {}"),
)
_LENGTHS = (
    ("minLength", "maxLength", str, "characters"),
    ("minItems", "maxItems", list, "items"),
    ("minProperties", "maxProperties", dict, "fields"),
)
_DEPTH = 64


def problems_in(value: Any, schema: Any) -> tuple[tuple[str, str], ...]:
    """What of the value does not fit, as (path, message) pairs; empty when it fits."""
    return tuple(_problems(value, schema, schema, "$", 0))


def _problems(value: Any, schema: Any, root: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if not isinstance(schema, dict) or depth > _DEPTH:
        return
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        target = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        yield from _problems(value, target, root, path, depth + 1)
    yield from _choices(value, schema, root, path, depth)
    wanted = schema.get("type")
    if isinstance(wanted, str) and wanted in _TYPES and not _TYPES[wanted](value):
        yield path, f"must be {'an' if wanted[0] in 'aio' else 'a'} {wanted}"
        return
    yield from _sizes(value, schema, path)
    if isinstance(value, dict):
        yield from _fields(value, schema, root, path, depth)
    if isinstance(value, list):
        items, first = schema.get("items"), schema.get("prefixItems", [])
        for index, item in enumerate(value):
            inner = first[index] if index < len(first) else items
            yield from _problems(item, inner, root, f"{path}[{index}]", depth + 1)


def _choices(value: Any, schema: dict[str, Any], root: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if "const" in schema and value != schema["const"]:
        yield path, f"must be {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield path, "must be one of " + ", ".join(map(repr, schema["enum"]))
    for keyword in ("anyOf", "oneOf"):
        options = schema.get(keyword)
        if options:
            found = [list(_problems(value, option, root, path, depth + 1)) for option in options]
            if all(found):
                yield min(found, key=lambda problems: (len(problems), problems[0][0] == path))[0]
    for part in schema.get("allOf", ()):
        yield from _problems(value, part, root, path, depth + 1)


def _sizes(value: Any, schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        for keyword, holds, message in _BOUNDS:
            if keyword in schema and not holds(value, schema[keyword]):
                yield path, message.format(schema[keyword])
    for least, most, kind, unit in _LENGTHS:
        if isinstance(value, kind):
            if least in schema and len(value) < schema[least]:
                yield path, f"must have at least {schema[least]} {unit}"
            if most in schema and len(value) > schema[most]:
                yield path, f"must have at most {schema[most]} {unit}"
    pattern = schema.get("pattern")
    if isinstance(value, str) and isinstance(pattern, str):
        try:
            _matcher(pattern).validate_python(value)
        except SchemaError:
            pass  # written for another dialect: the worker judges
        except ValidationError:
            yield path, f"must match {pattern}"


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> SchemaValidator:
    """What tells whether text has a pattern, in time in proportion to the text: whoever asks may mean no good."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _fields(
    value: dict[str, Any], schema: dict[str, Any], root: Any, path: str, depth: int
) -> Iterator[tuple[str, str]]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}", "is required"
    others = schema.get("additionalProperties", True)
    for name, child in value.items():
        if name in known:
            yield from _problems(child, known[name], root, f"{path}.{name}", depth + 1)
        elif others is False:
            yield f"{path}.{name}", "is not a known field"
        else:
            yield from _problems(child, others, root, f"{path}.{name}", depth + 1)
