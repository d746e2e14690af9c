"""What was typed into a form, and the one JSON value that it means; and back: how a value would have been typed in.

What a browser sends is kept as text (`Entries`) until it is a value, so that an answer that is refused comes back as
it was typed. Names of inputs are JSON pointers below ``v``; names with ``#`` are controls: ``#on`` whether an optional
group is filled in, ``#count`` how many rows a list has, ``#zone`` of a time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from osprotocol._json import encode, parse
from osprotocol._lifecycle.schema import problems_in
from osprotocol.errors import InvalidValueError, LimitExceededError
from osprotocol.server.console.shapes import (
    ABSENT,
    Boolean,
    Box,
    Choice,
    Choices,
    Group,
    Moment,
    Number,
    Rows,
    Shape,
    Text,
    shape_of,
)

Entries = Mapping[str, Sequence[str]]
"""What was typed in: every value of every input, by its name."""

ROOT = "v"
MOST_ROWS = 200
"""Of one list; longer ones come through the API."""
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ZONE = re.compile(r"(UTC|Z|[+-][0-9]{2}:[0-9]{2})?")
_EDIT = re.compile(r"(add|remove):(v[^#]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a form says.

    Attributes:
        value: the JSON value; `ABSENT` when it cannot be told.
        problems: path and message of each field that is wrong, as errors of ours have them.
    """

    value: Any
    problems: tuple[tuple[str, str], ...]


def read(schema: Any, entries: Entries) -> Reading:
    """The value that was typed in, with everything that is wrong with it. The engine judges again."""
    shape = shape_of(schema)
    problems: list[tuple[str, str]] = []
    value = _read(shape, entries, ROOT, "$", problems)
    if value is ABSENT:
        if not problems:
            problems.append(("$", "is required"))
        return Reading(ABSENT, tuple(problems))
    known = [path for path, _ in problems]
    further = [one for one in problems_in(value, schema) if not any(one[0].startswith(path) for path in known)]
    return Reading(value, (*problems, *further))


def entries_of(schema: Any, value: Any = ABSENT) -> dict[str, list[str]]:
    """How a value, or the schema's defaults, would have been typed in."""
    shape = shape_of(schema)
    entries: dict[str, list[str]] = {}
    _fill(shape, shape.facts.default if value is ABSENT else value, ROOT, entries)
    return entries


def edited(schema: Any, entries: Entries, edit: str) -> tuple[dict[str, list[str]], str] | None:
    """What was typed in, with one row more or less, and the name of the list; None when the edit is none of ours.

    Args:
        schema: of the whole value.
        entries: what was typed in.
        edit: ``add:NAME`` of a list, or ``remove:NAME`` of a row.
    """
    found = _EDIT.fullmatch(edit)
    if found is None:
        return None
    action, name = found.groups()
    changed = {key: list(values) for key, values in entries.items()}
    if action == "add":
        count = rows_of(entries, name)
        rows = _find(shape_of(schema), name)
        if not isinstance(rows, Rows) or count >= MOST_ROWS:
            return None
        changed[f"{name}#count"] = [str(count + 1)]
        _fill(rows.item, rows.item.facts.default, f"{name}/{count}", changed)
        return changed, name
    name, _, row = name.rpartition("/")
    count = rows_of(entries, name)
    if not row.isascii() or not row.isdigit() or int(row) >= count:
        return None
    below = f"{name}/"
    moved: dict[str, list[str]] = {}
    for key, values in changed.items():
        index, slash, rest = key.removeprefix(below).partition("/")
        number, control, tail = index.partition("#")
        if not key.startswith(below) or not number.isdigit():
            moved[key] = values
        elif int(number) != int(row):
            moved[f"{below}{int(number) - (int(number) > int(row))}{control}{tail}{slash}{rest}"] = values
    moved[f"{name}#count"] = [str(count - 1)]
    return moved, name


def child(name: str, key: str | int) -> str:
    """The name of an input one level down."""
    return f"{name}/{str(key).replace('~', '~0').replace('/', '~1').replace('#', '~2')}"


def path_below(path: str, key: str | int) -> str:
    """The path of a part, as errors of ours write it."""
    return f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}"


def _find(shape: Shape, name: str) -> Shape | None:
    found: Shape | None = shape
    for segment in name.split("/")[1:]:
        match found:
            case Group():
                found = next((inner for key, inner in found.fields if child("", key) == f"/{segment}"), None)
            case Rows():
                found = found.item
            case _:
                return None
    return found


def first_of(entries: Entries, name: str) -> str:
    """The first value of an input; empty without one."""
    values = entries.get(name)
    return values[0] if values else ""


def zone_of(entries: Entries, name: str) -> str:
    """The zone of a time; UTC when the form had none."""
    return first_of(entries, f"{name}#zone").strip() if f"{name}#zone" in entries else "UTC"


def rows_of(entries: Entries, name: str) -> int:
    """How many rows a list has."""
    text = first_of(entries, f"{name}#count")
    return min(int(text), MOST_ROWS) if text.isascii() and text.isdigit() and len(text) < 6 else 0


# --------------------------------------------------------------------------------------------------- reading


def _read(shape: Shape, entries: Entries, name: str, path: str, problems: list[tuple[str, str]]) -> Any:
    """The value, or `ABSENT`: left empty, or wrong and in `problems`."""
    match shape:
        case Group():
            return _read_group(shape, entries, name, path, problems)
        case Rows():
            return _read_rows(shape, entries, name, path, problems)
        case Choices():
            return _read_choices(shape, entries, name, path, problems)
        case Boolean() if shape.is_checkbox:
            return first_of(entries, name) == "true"
    text = first_of(entries, name).replace("\r\n", "\n").replace("\r", "\n")
    if not (text if isinstance(shape, Text) and shape.input in ("text", "area", "password") else text.strip()):
        return _left_empty(shape)
    try:
        return _scalar(shape, text, entries, name)
    except ValueError as error:
        problems.append((path, str(error)))
    except (InvalidValueError, LimitExceededError) as error:
        problems.append((path, error.problems[0][1] if isinstance(error, InvalidValueError) else str(error)))
    return ABSENT


def _left_empty(shape: Shape) -> Any:
    facts = shape.facts
    if facts.nullable:
        return None
    if isinstance(shape, Text) and not facts.required and shape.input in ("text", "area") and facts.default:
        return "" if isinstance(facts.default, str) else ABSENT
    return ABSENT


def _scalar(shape: Shape, text: str, entries: Entries, name: str) -> Any:
    match shape:
        case Text():
            if shape.decimal and not _DECIMAL.fullmatch(text.strip()):
                raise ValueError("must be a number, for example 12.50")
            return text if shape.input in ("text", "area", "password") and not shape.decimal else text.strip()
        case Moment():
            return _moment(
                text.strip(), first_of(entries, f"{name}#zone").strip() if f"{name}#zone" in entries else "UTC"
            )
        case Number():
            return _number(text.strip(), shape.whole)
        case Boolean():
            if text not in ("true", "false"):
                raise ValueError("must be yes or no")
            return text == "true"
        case Choice():
            found = [value for value, _ in shape.options if encode(value) == text]
            if not found:
                raise ValueError("must be one of the options")
            return found[0]
        case _:
            return parse(text, shape.facts.label)


def _number(text: str, whole: bool) -> int | float:
    if _WHOLE.fullmatch(text):
        try:
            return int(text)
        except ValueError:
            raise ValueError("has too many digits") from None
    if whole:
        raise ValueError("must be a whole number, for example 1000")
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("must be a number, for example 12.5")
    return float(text)


def _moment(text: str, zone: str) -> str:
    if not _ZONE.fullmatch(zone):
        raise ValueError("the zone must be UTC, or hours and minutes from it, for example +02:00")
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a date and a time, for example 2030-12-31T18:00") from None
    return local.replace(tzinfo=None).isoformat() + ("Z" if zone in ("UTC", "Z") else zone)


def _read_group(shape: Group, entries: Entries, name: str, path: str, problems: list[tuple[str, str]]) -> Any:
    if shape.is_optional and not first_of(entries, f"{name}#on"):
        return None if shape.facts.nullable else ABSENT
    value: dict[str, Any] = {}
    for key, inner in shape.fields:
        before = len(problems)
        part = _read(inner, entries, child(name, key), path_below(path, key), problems)
        if part is not ABSENT:
            value[key] = part
        elif inner.facts.required and len(problems) == before:
            problems.append((path_below(path, key), "is required"))
    return value


def _read_rows(shape: Rows, entries: Entries, name: str, path: str, problems: list[tuple[str, str]]) -> Any:
    count = rows_of(entries, name)
    if not count:
        return _none_chosen(shape)
    value: list[Any] = []
    for index in range(count):
        before = len(problems)
        part = _read(shape.item, entries, child(name, index), path_below(path, index), problems)
        value.append(None if part is ABSENT else part)
        if part is ABSENT and len(problems) == before:
            problems.append((path_below(path, index), "is empty; fill it in or remove it"))
    return value


def _read_choices(shape: Choices, entries: Entries, name: str, path: str, problems: list[tuple[str, str]]) -> Any:
    chosen = set(entries.get(name, ()))
    if not chosen:
        return _none_chosen(shape)
    texts = [encode(value) for value, _ in shape.options]
    if chosen - set(texts):
        problems.append((path, "has a value that is none of the options"))
        return ABSENT
    return [value for (value, _), text in zip(shape.options, texts, strict=True) if text in chosen]


def _none_chosen(shape: Choices | Rows) -> Any:
    facts = shape.facts
    if facts.nullable:
        return None
    return [] if facts.required or (facts.default is not ABSENT and facts.default) else ABSENT


# --------------------------------------------------------------------------------------------------- filling in


def _fill(shape: Shape, value: Any, name: str, entries: dict[str, list[str]]) -> None:
    match shape:
        case Group():
            given = value if isinstance(value, dict) else {}
            if shape.is_optional and isinstance(value, dict):
                entries[f"{name}#on"] = ["on"]
            for key, inner in shape.fields:
                _fill(inner, given.get(key, inner.facts.default), child(name, key), entries)
        case Rows():
            items = value if isinstance(value, list) else []
            if value is ABSENT or value is None:
                items = [shape.item.facts.default] * (shape.least if not shape.facts.nullable else 0)
            entries[f"{name}#count"] = [str(len(items))]
            for index, item in enumerate(items):
                _fill(shape.item, item, child(name, index), entries)
        case Choices():
            if isinstance(value, list) and value:
                entries[name] = [encode(item) for item in value]
        case Moment():
            _fill_moment(value, name, entries)
        case Choice() if value is ABSENT and len(shape.options) == 1 and shape.facts.required:
            entries[name] = [encode(shape.options[0][0])]
        case _ if value is not ABSENT and not (value is None and shape.facts.nullable):
            entries[name] = [_typed_in(shape, value)]
        case _:
            entries.pop(name, None)


def _typed_in(shape: Shape, value: Any) -> str:
    match shape:
        case Boolean():
            return "true" if value is True else ("false" if value is False else "")
        case Choice():
            return encode(value)
        case Box():
            return json.dumps(value, indent=2, ensure_ascii=False)
        case _:
            return value if isinstance(value, str) else encode(value)


def _fill_moment(value: Any, name: str, entries: dict[str, list[str]]) -> None:
    entries[f"{name}#zone"] = ["UTC"]
    if not isinstance(value, str):
        return
    local, _, offset = re.fullmatch(r"(.*?)(()Z|[+-]\d\d:\d\d)?", value.replace(" ", "T"), re.DOTALL).group(1, 3, 2)  # type: ignore[union-attr]
    entries[name] = [local]
    entries[f"{name}#zone"] = ["UTC" if offset == "Z" else offset or ""]
