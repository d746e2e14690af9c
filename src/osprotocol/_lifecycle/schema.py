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
_VISITS = 100_000
"""How often a part of a value is held against a part of a schema. References that branch would make it exponential."""
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED_SCHEMAS = ("$defs", "properties")


def problems_in(value: Any, schema: Any) -> tuple[tuple[str, str], ...]:
    """What of the value does not fit, as (path, message) pairs; empty when it fits."""
    return tuple(_problems(value, schema, _Root(schema), "$", 0))


def problems_of(schema: Any, path: str = "$", depth: int = 0) -> tuple[tuple[str, str], ...]:
    """What keeps a JSON Schema from being one, as (path, message) pairs; only keywords used here count."""
    if isinstance(schema, bool) or depth > _DEPTH:
        return ()
    if not isinstance(schema, dict):
        return ((path, "must be a schema, which is an object"),)
    problems = [
        (f"{path}.{keyword}", f"must be {told}")
        for keyword, (told, holds) in _KEYWORDS.items()
        if keyword in schema and not holds(schema[keyword])
    ]
    inner = [(f".{word}[{n}]", one) for word in _LISTS_OF_SCHEMAS for n, one in enumerate(_list(schema.get(word)))]
    inner += [(f".{word}.{name}", one) for word in _NAMED_SCHEMAS for name, one in _dict(schema.get(word)).items()]
    inner += [(f".{word}", schema[word]) for word in ("items", "additionalProperties") if word in schema]
    for name, one in inner:
        problems += problems_of(one, path + name, depth + 1)
    return tuple(problems)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


_KEYWORDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "type": ("a name or several", lambda value: isinstance(value, str | list)),
    "enum": ("a list", lambda value: isinstance(value, list)),
    "required": ("a list of names", lambda value: isinstance(value, list) and all(isinstance(n, str) for n in value)),
    "pattern": ("a text", lambda value: isinstance(value, str)),
    "$ref": ("a text", lambda value: isinstance(value, str)),
    "multipleOf": ("a number above 0", lambda value: _is_number(value) and value > 0),
    **{keyword: ("a number", _is_number) for keyword, _, _ in _BOUNDS if keyword != "multipleOf"},
    **{keyword: ("a count", _is_count) for least, most, _, _ in _LENGTHS for keyword in (least, most)},
    **{keyword: ("a list of schemas", lambda value: isinstance(value, list)) for keyword in _LISTS_OF_SCHEMAS},
    **{keyword: ("schemas by name", lambda value: isinstance(value, dict)) for keyword in _NAMED_SCHEMAS},
}


class _Root:
    """The whole schema, and how much of it may still be looked at."""

    __slots__ = ("definitions", "left")

    def __init__(self, schema: Any) -> None:
        self.definitions = _dict(_dict(schema).get("$defs"))
        self.left = _VISITS


def _problems(value: Any, schema: Any, root: _Root, path: str, depth: int) -> Iterator[tuple[str, str]]:
    root.left -= 1
    if not isinstance(schema, dict) or depth > _DEPTH or root.left < 0:
        return
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        target = root.definitions.get(reference.removeprefix("#/$defs/"))
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
        items, first = schema.get("items"), _list(schema.get("prefixItems"))
        for index, item in enumerate(value):
            inner = first[index] if index < len(first) else items
            yield from _problems(item, inner, root, f"{path}[{index}]", depth + 1)


def _choices(value: Any, schema: dict[str, Any], root: _Root, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if "const" in schema and value != schema["const"]:
        yield path, f"must be {schema['const']!r}"
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        yield path, "must be one of " + ", ".join(map(repr, schema["enum"]))
    for keyword in ("anyOf", "oneOf"):
        options = _list(schema.get(keyword))
        if options:
            found = [list(_problems(value, option, root, path, depth + 1)) for option in options]
            if all(found):
                yield min(found, key=lambda problems: (len(problems), problems[0][0] == path))[0]
    for part in _list(schema.get("allOf")):
        yield from _problems(value, part, root, path, depth + 1)


def _sizes(value: Any, schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if _is_number(value):
        for keyword, holds, message in _BOUNDS:
            bound = schema.get(keyword)
            if _is_number(bound) and not _holds(holds, value, bound):
                yield path, message.format(bound)
    for least, most, kind, unit in _LENGTHS:
        if isinstance(value, kind):
            if _is_count(schema.get(least)) and len(value) < schema[least]:
                yield path, f"must have at least {schema[least]} {unit}"
            if _is_count(schema.get(most)) and len(value) > schema[most]:
                yield path, f"must have at most {schema[most]} {unit}"
    pattern = schema.get("pattern")
    if isinstance(value, str) and isinstance(pattern, str):
        try:
            _matcher(pattern).validate_python(value)
        except SchemaError:
            pass  # written for another dialect: the worker judges
        except ValidationError:
            yield path, f"must match {pattern}"


def _holds(holds: Callable[[Any, Any], bool], value: Any, bound: Any) -> bool:
    try:
        return holds(value, bound)
    except (ArithmeticError, ValueError):  # a multiple of 0, or of 0.1 of a number with 400 digits
        return True


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> SchemaValidator:
    """What tells whether text has a pattern, in time in proportion to the text: whoever asks may mean no good."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _fields(
    value: dict[str, Any], schema: dict[str, Any], root: _Root, path: str, depth: int
) -> Iterator[tuple[str, str]]:
    known = _dict(schema.get("properties"))
    for name in _list(schema.get("required")):
        if isinstance(name, str) and name not in value:
            yield f"{path}.{name}", "is required"
    others = schema.get("additionalProperties", True)
    for name, child in value.items():
        if name in known:
            yield from _problems(child, known[name], root, f"{path}.{name}", depth + 1)
        elif others is False:
            yield f"{path}.{name}", "is not a known field"
        else:
            yield from _problems(child, others, root, f"{path}.{name}", depth + 1)
