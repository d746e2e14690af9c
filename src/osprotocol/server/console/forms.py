"""Forms from JSON Schema: a schema and what was typed in, as fields for a page. `entries` gives the value back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from osprotocol._json import encode
from osprotocol.server.console.entries import (
    MOST_ROWS,
    ROOT,
    Entries,
    child,
    entries_of,
    first_of,
    path_below,
    rows_of,
    zone_of,
)
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
from osprotocol.server.console.visible import visible_text


@dataclass(frozen=True, slots=True)
class Option:
    """One value that can be chosen."""

    value: str
    label: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Field:
    """A field as a page shows it.

    Attributes:
        kind: text, area, email, url, date, time, password, moment, integer, number, checkbox, radios, select,
            checkboxes, fixed, group, rows, json.
        name: of its input.
        id: of its element; the error summary links to it.
        problem: what is wrong with it; empty when nothing is.
        value: what its input holds.
        options: for radios, select, checkboxes and fixed.
        fields: of a group, or the rows of a list.
        is_optional: a group that can be left out; `is_on` when it is filled in.
        zone: of a moment.
        can_add: whether a list takes one more row.
    """

    kind: str
    name: str
    id: str
    label: str
    help: str
    hints: tuple[str, ...]
    required: bool
    problem: str
    value: str = ""
    options: tuple[Option, ...] = ()
    fields: tuple[Field, ...] = ()
    is_optional: bool = False
    is_on: bool = True
    zone: str = ""
    can_add: bool = True


@dataclass(frozen=True, slots=True)
class Form:
    """A form as a page shows it: its fields, and its problems with the element that each is about."""

    root: Field
    problems: tuple[tuple[str, str, str], ...]
    """Id of the element, label, message."""


def form_of(
    schema: Any,
    entries: Entries | None = None,
    problems: Iterable[tuple[str, str]] = (),
    *,
    prefix: str = "f",
    label: str = "Answer",
) -> Form:
    """The form for a schema.

    Args:
        schema: what is asked for.
        entries: what was typed in; the defaults when nothing was.
        problems: what is wrong with it, as (path, message).
        prefix: of the ids, for several forms on a page.
        label: of the whole, when the schema has no title.
    """
    shape = shape_of(schema, label)
    given = entries_of(schema) if entries is None else entries
    builder = _Builder(given, tuple(problems), prefix)
    root = builder.field(shape, ROOT, "$")
    return Form(root, builder.summary())


class _Builder:
    """Makes fields, and finds the field that each problem is about."""

    def __init__(self, entries: Entries, problems: tuple[tuple[str, str], ...], prefix: str) -> None:
        self.entries = entries
        self.problems = problems
        self.prefix = prefix
        self.places: dict[str, tuple[str, str]] = {}
        self.owner_by_problem: dict[int, str] = {}

    def summary(self) -> tuple[tuple[str, str, str], ...]:
        return tuple((*self.places[self._owner(path)], message) for path, message in self.problems)

    def _owner(self, path: str) -> str:
        """The path of the field that shows a problem: the innermost one that leads there."""
        if path in self.places:
            return path
        fitting = [known for known in self.places if path.startswith((f"{known}.", f"{known}["))]
        return max(fitting, key=len, default="$")

    def field(self, shape: Shape, name: str, path: str, within: str = "", number: str = "") -> Field:
        """The field at a path; `within` names what it is in, `number` tells it from its likes."""
        identifier = f"{self.prefix}{len(self.places)}"
        facts = shape.facts
        full = f"{within}{facts.label}{number}"
        self.places[path] = (identifier, full)
        below = "" if name == ROOT else f"{full}, "
        parts: dict[str, Any] = {"value": first_of(self.entries, name)}
        match shape:
            case Group():
                parts["fields"] = tuple(
                    self.field(inner, child(name, key), path_below(path, key), below) for key, inner in shape.fields
                )
                parts["is_optional"] = (shape.is_optional and name != ROOT) or facts.nullable
                parts["is_on"] = not parts["is_optional"] or bool(first_of(self.entries, f"{name}#on"))
            case Rows():
                count = rows_of(self.entries, name)
                parts["value"] = str(count)
                parts["can_add"] = count < (MOST_ROWS if shape.most is None else shape.most)
                parts["fields"] = tuple(
                    self.field(shape.item, child(name, row), path_below(path, row), within, f" {row + 1}")
                    for row in range(count)
                )
            case Moment():
                parts["zone"] = zone_of(self.entries, name)
            case Choice() | Choices() | Boolean():
                parts["options"] = self._options(shape, name)
            case _:
                pass
        return Field(
            kind=_kind(shape, parts["value"]),
            name=name,
            id=identifier,
            label=facts.label + number,
            help=facts.help,
            hints=_all_hints(shape),
            required=not _can_be_empty(shape),
            problem="; ".join(message for where, message in self.problems if self._owner(where) == path),
            **parts,
        )

    def _options(self, shape: Choice | Choices | Boolean, name: str) -> tuple[Option, ...]:
        chosen = set(self.entries.get(name, ()))
        known: tuple[tuple[str, str], ...] = (("true", "Yes"), ("false", "No"))
        if not isinstance(shape, Boolean):
            known = tuple((encode(value), label) for value, label in shape.options)
        options = [Option(value, visible_text(label), value in chosen) for value, label in known]
        if not isinstance(shape, Choices) and _can_be_empty(shape):
            options.append(Option("", "No answer", not chosen or "" in chosen))
        return tuple(options)


def _can_be_empty(shape: Shape) -> bool:
    """Whether no answer is an answer of its own. What has a default is chosen from, not left out."""
    facts = shape.facts
    if isinstance(shape, Choice | Boolean) and facts.default is not ABSENT and not facts.nullable:
        return False
    return facts.nullable or not facts.required


def _kind(shape: Shape, value: str) -> str:
    match shape:
        case Text():
            return "area" if shape.input == "text" and "\n" in value else shape.input
        case Moment():
            return "moment"
        case Number():
            return "integer" if shape.whole else "number"
        case Boolean():
            return "checkbox" if shape.is_checkbox else "radios"
        case Choice():
            if len(shape.options) == 1 and shape.facts.required and not shape.facts.nullable:
                return "fixed"
            return "radios" if len(shape.options) <= 5 else "select"
        case Choices():
            return "checkboxes"
        case Group():
            return "group"
        case Rows():
            return "rows"
        case Box():
            return "json"


def _all_hints(shape: Shape) -> tuple[str, ...]:
    facts = shape.facts
    if isinstance(shape, Box):
        return (*facts.hints, 'As JSON, for example {"name": "value"}, ["a", "b"], "text", 12 or true')
    is_told = isinstance(facts.default, str | int | float) and not facts.required and not facts.nullable
    if is_told and (isinstance(shape, Number | Moment) or (isinstance(shape, Text) and shape.input != "area")):
        return (*facts.hints, f"When left empty: {facts.default}") if facts.default != "" else facts.hints
    return facts.hints
