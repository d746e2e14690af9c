"""What kind of field a JSON Schema asks for. Pure: a schema in, a tree of shapes out.

Covers what pydantic writes. What it does not know becomes a JSON box, so nothing is impossible to answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from osprotocol import _limits
from osprotocol._json import encode

ABSENT: Final = object()
"""No value: the field is left out, and its default applies if it has one."""
_LONG_TEXT = 160
_LONG_FORMATS = ("textarea", "multi-line", "multiline", "markdown", "html")
_BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("multipleOf", "a multiple of {}"),
)
_FORMAT_HINTS = {
    "uuid": "For example 123e4567-e89b-12d3-a456-426614174000",
    "duration": "For example PT1H30M for an hour and a half",
    "ipv4": "For example 192.0.2.1",
    "ipv6": "For example 2001:db8::1",
}

TextInput = Literal["text", "area", "email", "url", "date", "time", "password"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What every field has.

    Attributes:
        label: its name for people.
        help: the schema's description.
        required: whether it must be there; the whole answer always is.
        nullable: whether no answer is an answer.
        default: what it is when left out; `ABSENT` without one.
        hints: what a value has to be like, in words.
    """

    label: str
    help: str = ""
    required: bool = True
    nullable: bool = False
    default: Any = ABSENT
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A text, also one with a format of its own."""

    facts: Facts
    input: TextInput = "text"
    decimal: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant: a local time and its zone."""

    facts: Facts


@dataclass(frozen=True, slots=True)
class Number:
    """A number; every digit that is typed counts."""

    facts: Facts
    whole: bool


@dataclass(frozen=True, slots=True)
class Boolean:
    """Yes or no."""

    facts: Facts

    @property
    def is_checkbox(self) -> bool:
        """A box that is ticked or not, because no third state is possible and there is a default."""
        return not self.facts.nullable and not self.facts.required and isinstance(self.facts.default, bool)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values, each with its label."""

    facts: Facts
    options: tuple[tuple[Any, str], ...]


@dataclass(frozen=True, slots=True)
class Choices:
    """Any of a few values."""

    facts: Facts
    options: tuple[tuple[Any, str], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """An object: a field for each property."""

    facts: Facts
    fields: tuple[tuple[str, Shape], ...]

    @property
    def is_optional(self) -> bool:
        """Whether all of it can be left out."""
        return self.facts.nullable or not self.facts.required


@dataclass(frozen=True, slots=True)
class Rows:
    """A list: one row for each item."""

    facts: Facts
    item: Shape
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """Anything else, as JSON text."""

    facts: Facts


Shape = Text | Moment | Number | Boolean | Choice | Choices | Group | Rows | Box


def shape_of(schema: Any, label: str = "Answer") -> Shape:
    """The shape of a whole answer or input."""
    root = schema if isinstance(schema, Mapping) else {}
    return _shape(root, root, label, True, ())


def humanized(name: str) -> str:
    """``release_date`` as people write it."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:] if words else name


def _shape(schema: Any, root: Mapping[str, Any], name: str, required: bool, seen: tuple[str, ...]) -> Shape:
    own = schema if isinstance(schema, Mapping) else {}
    plain, nullable, seen = _resolved(own, root, seen)
    facts = Facts(
        label=_title(own, name) or str((plain.get("title") if own is root else "") or humanized(name)),
        help=str(own.get("description") or plain.get("description") or ""),
        required=required,
        nullable=nullable,
        default=own["default"] if "default" in own else plain.get("default", ABSENT),
    )
    if plain.get("x-recursive"):
        return Box(facts)
    return _chosen(plain, facts) or _typed(plain, facts, root, name, seen)


def _title(schema: Mapping[str, Any], name: str) -> str:
    """The title that somebody chose; empty when there is none, or the one that pydantic makes from the name."""
    title = str(schema.get("title") or "")
    return "" if title == name.title().replace("_", " ").strip() else title


def _resolved(
    schema: Mapping[str, Any], root: Mapping[str, Any], seen: tuple[str, ...]
) -> tuple[Mapping[str, Any], bool, tuple[str, ...]]:
    """The schema behind references and ``anyOf`` with null; whether null fits; the references that led there."""
    nullable = False
    for _ in range(_limits.JSON_DEPTH):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in seen:
                return {"x-recursive": True}, nullable, seen
            definitions = root.get("$defs")
            target = definitions.get(reference.removeprefix("#/$defs/")) if isinstance(definitions, Mapping) else None
            if not isinstance(target, Mapping):
                return {}, nullable, seen
            seen = (*seen, reference)
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
            continue
        keyword = next((word for word in ("anyOf", "oneOf", "allOf") if isinstance(schema.get(word), list)), None)
        if keyword is None:
            break
        variants = [one for one in schema[keyword] if one not in ({"type": "null"}, {"const": None})]
        if keyword != "allOf" and len(variants) < len(schema[keyword]):
            nullable = True
        rest = {key: value for key, value in schema.items() if key != keyword}
        if len(variants) != 1 or not isinstance(variants[0], Mapping):
            return {**rest, keyword: variants}, nullable, seen
        schema = {**variants[0], **rest}
    if isinstance(schema.get("type"), list):
        kinds = [kind for kind in schema["type"] if kind != "null"]
        nullable = nullable or len(kinds) < len(schema["type"])
        schema = {**schema, "type": kinds[0] if len(kinds) == 1 else None}
    return schema, nullable, seen


def _chosen(plain: Mapping[str, Any], facts: Facts) -> Shape | None:
    """A choice, if only certain values fit."""
    if "const" in plain:
        return Choice(facts, ((plain["const"], _label(plain["const"])),))
    values = plain.get("enum")
    if isinstance(values, list) and values:
        return Choice(facts, tuple((value, _label(value)) for value in values))
    variants = plain.get("oneOf") or plain.get("anyOf") or []
    if len(variants) > 1 and all(isinstance(one, Mapping) and "const" in one for one in variants):
        return Choice(facts, tuple((one["const"], str(one.get("title") or _label(one["const"]))) for one in variants))
    if len(variants) == 2 and {one.get("type") for one in variants if isinstance(one, Mapping)} == {"number", "string"}:
        # What pydantic writes for a Decimal. Its digits survive as text, not as a JSON number.
        number, text = sorted(variants, key=lambda one: str(one["type"]))
        if set(text) <= {"type", "pattern"}:
            decimal = "pattern" in text
            hint = "A decimal number" if decimal else "A number, or text"
            return Text(_hinted(facts, (hint, *_limits_of(number))), "text", decimal=decimal)
    return None


def _label(value: Any) -> str:
    if isinstance(value, str):
        return value or "(empty text)"
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return "None" if value is None else encode(value)


def _hinted(facts: Facts, hints: tuple[str, ...]) -> Facts:
    return Facts(facts.label, facts.help, facts.required, facts.nullable, facts.default, hints)


def _number_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _label(value)


def _limits_of(plain: Mapping[str, Any], what: str = "") -> tuple[str, ...]:
    """What a number has to be like, in a sentence; nothing when any number will do."""
    given = {key: _number_text(plain[key]) for key, _ in _BOUNDS if plain.get(key) is not None}
    if "minimum" in given and "maximum" in given:
        what = f"{what} from {given.pop('minimum')} to {given.pop('maximum')}".lstrip()
    bounds = [words.format(given[key]) for key, words in _BOUNDS if key in given]
    told = ", ".join(part for part in (what, " and ".join(bounds)) if part)
    return (humanized(told),) if told else ()


def _sizes(plain: Mapping[str, Any], least: str, most: str, unit: str) -> tuple[str, ...]:
    low, high = plain.get(least), plain.get(most)
    low = None if unit == "characters" and low == 1 else low
    unit = unit.removesuffix("s") if (high if high is not None else low) == 1 else unit
    if low and high:
        return (f"Exactly {low} {unit}",) if low == high else (f"From {low} to {high} {unit}",)
    return (f"At least {low} {unit}",) if low else ((f"At most {high} {unit}",) if high is not None else ())


def _typed(plain: Mapping[str, Any], facts: Facts, root: Mapping[str, Any], name: str, seen: tuple[str, ...]) -> Shape:
    match plain.get("type"):
        case "string":
            return _text(plain, facts, not seen and plain is root)
        case "integer":
            return Number(_hinted(facts, _limits_of(plain, "a whole number")), whole=True)
        case "number":
            return Number(_hinted(facts, _limits_of(plain)), whole=False)
        case "boolean":
            return Boolean(facts)
        case "array" if isinstance(plain.get("items"), Mapping) and not plain.get("prefixItems"):
            return _list(plain, facts, root, name, seen)
        case "object" if isinstance(plain.get("properties"), Mapping):
            needed = plain.get("required") or ()
            fields = tuple(
                (key, _shape(child, root, key, key in needed, seen)) for key, child in plain["properties"].items()
            )
            return Group(facts, fields)
        case _:
            return Box(facts)


def _text(plain: Mapping[str, Any], facts: Facts, alone: bool) -> Shape:
    form, most = plain.get("format"), plain.get("maxLength")
    hints = _sizes(plain, "minLength", "maxLength", "characters")
    if isinstance(form, str) and form in _FORMAT_HINTS:
        hints += (_FORMAT_HINTS[form],)
    # Few people read patterns. Where the field is described in words, the pattern comes with the error only.
    if plain.get("pattern") and not facts.help:
        hints += (f"Must match {plain['pattern']}",)
    facts = _hinted(facts, hints)
    match form:
        case "date-time":
            return Moment(facts)
        case "email" | "date" | "time" | "password":
            return Text(facts, form)
        case "uri" | "url":
            return Text(facts, "url")
        case _:
            many_lines = isinstance(facts.default, str) and "\n" in facts.default
            is_long = alone if most is None else most > _LONG_TEXT
            return Text(facts, "area" if is_long or many_lines or form in _LONG_FORMATS else "text")


def _list(plain: Mapping[str, Any], facts: Facts, root: Mapping[str, Any], name: str, seen: tuple[str, ...]) -> Shape:
    facts = _hinted(facts, _sizes(plain, "minItems", "maxItems", "items"))
    item = _shape(plain["items"], root, singular(name), True, seen)
    if isinstance(item, Choice) and not item.facts.nullable and len(item.options) > 1:
        return Choices(facts, item.options)
    most = plain.get("maxItems")
    return Rows(facts, item, int(plain.get("minItems") or 0), most if isinstance(most, int) else None)


def singular(name: str) -> str:
    """What one item of a list is called."""
    if name.endswith("ies"):
        return name[:-3] + "y"
    if name.endswith("s") and not name.endswith("ss") and len(name) > 3:
        return name[:-1]
    return "item" if name in ("Answer", "Input") else name
