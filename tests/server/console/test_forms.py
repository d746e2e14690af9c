"""Forms from JSON Schema: every kind of field, and back to exactly one value."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from osprotocol._json import encode
from osprotocol.server.console.entries import edited, entries_of, read
from osprotocol.server.console.forms import Field as Shown
from osprotocol.server.console.forms import form_of
from osprotocol.server.console.shapes import ABSENT


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Item(BaseModel):
    name: str
    count: int = Field(ge=1, le=9)


class Order(BaseModel):
    """What is ordered."""

    customer: str = Field(description="Full name")
    colour: Colour
    gift: bool
    items: list[Item] = Field(min_length=1)
    size: Literal["s", "m"] = "m"
    express: bool = False
    address: Item | None = None
    note: str | None = None


class Node(BaseModel):
    name: str
    children: list[Node] = []


def schema_of(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


def kinds(kind: Any) -> str:
    return form_of(schema_of(kind)).root.kind


def fields(schema: dict[str, Any], **named: Any) -> dict[str, Shown]:
    return {field.label: field for field in form_of(schema, **named).root.fields}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (str, "area"),
        (int, "integer"),
        (float, "number"),
        (bool, "radios"),
        (dt.date, "date"),
        (dt.time, "time"),
        (dt.datetime, "moment"),
        (Decimal, "text"),
        (Colour, "radios"),
        (Literal["a", "b", "c", "d", "e"], "radios"),
        (Literal["a", "b", "c", "d", "e", "f"], "select"),
        (Literal["only"], "fixed"),
        (list[Colour], "checkboxes"),
        (list[Item], "rows"),
        (list[str], "rows"),
        (Item, "group"),
        (Item | None, "group"),
        (dict[str, int], "json"),
        (int | str, "json"),
        (tuple[int, str], "json"),
        (Any, "json"),
    ],
    ids=str,
)  # fmt: skip
def test_each_kind_of_type_has_its_field(kind: Any, expected: str) -> None:
    """What pydantic writes into the schema decides the field."""
    assert kinds(kind) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "format": "email"}, "email"),
        ({"type": "string", "format": "uri"}, "url"),
        ({"type": "string", "maxLength": 40}, "text"),
        ({"type": "string", "maxLength": 4_000}, "area"),
        ({"type": "string", "format": "password"}, "password"),
        ({"oneOf": [{"const": 1, "title": "One"}, {"const": 2, "title": "Two"}]}, "radios"),
        ({"type": ["integer", "null"]}, "integer"),
        ({"$ref": "#/$defs/missing"}, "json"),
        ({"type": "object"}, "json"),
        ({"type": "array"}, "json"),
        (True, "json"),
        ({"type": "nonsense"}, "json"),
    ],
    ids=str,
)  # fmt: skip
def test_schemas_that_others_write_have_a_field_too(schema: Any, expected: str) -> None:
    """A gate's schema comes from anywhere."""
    assert form_of(schema).root.kind == expected


def test_a_type_that_holds_itself_becomes_a_json_box() -> None:
    """A form without end is none."""
    children = fields(schema_of(Node))["Children"]
    added = form_of(schema_of(Node), {"v/children#count": ["1"]}).root.fields[1]
    assert children.kind == "rows"
    assert added.fields[0].kind == "json"


def test_a_yes_or_no_with_a_default_is_a_box_to_tick() -> None:
    """Required ones are two radios, of which none is chosen for you."""
    shown = fields(schema_of(Order))
    assert shown["Express"].kind == "checkbox"
    assert [(option.label, option.is_chosen) for option in shown["Gift"].options] == [("Yes", False), ("No", False)]


def test_a_yes_or_no_that_may_be_left_open_has_a_third_choice() -> None:
    """No answer is null."""
    schema = schema_of(bool | None)
    assert [option.label for option in form_of(schema).root.options] == ["Yes", "No", "No answer"]
    assert read(schema, {"v": [""]}).value is None


def test_labels_help_and_limits_are_words() -> None:
    """Title, description, bounds."""
    shown = fields(schema_of(Item))
    assert shown["Count"].hints == ("A whole number from 1 to 9",)
    assert fields(schema_of(Order))["Customer"].help == "Full name"


def test_a_choice_with_a_default_is_never_left_open() -> None:
    """No answer would be the default once more."""
    schema = {"type": "object", "properties": {"currency": {"enum": ["EUR", "CHF"], "default": "EUR"}}}
    shown = form_of(schema).root.fields[0]
    assert [(option.label, option.is_chosen) for option in shown.options] == [("EUR", True), ("CHF", False)]
    assert shown.required


def test_a_choice_that_may_be_null_has_no_answer_beside_its_default() -> None:
    """Null is not the default then."""
    one = {"anyOf": [{"enum": ["EUR", "CHF"]}, {"type": "null"}], "default": "EUR"}
    shown = form_of({"type": "object", "properties": {"currency": one}}).root.fields[0]
    assert [option.label for option in shown.options] == ["EUR", "CHF", "No answer"]


def test_a_title_made_from_a_name_becomes_a_label_of_ours() -> None:
    """One that somebody wrote stays."""
    properties = {"publish_on": {"title": "Publish On"}, "iban": {"title": "IBAN Number"}}
    shown = form_of({"type": "object", "properties": properties}).root.fields
    assert [one.label for one in shown] == ["Publish on", "IBAN Number"]


def test_hints_say_what_people_need_to_know() -> None:
    """Large numbers in groups, no pattern beside a description, no least length of one, no word for a plain number."""
    properties = {
        "total": {"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000.0},
        "plain": {"type": "number"},
        "name": {"type": "string", "minLength": 1, "maxLength": 120},
        "account": {"type": "string", "pattern": "^[A-Z]$", "description": "Account of the supplier"},
        "code": {"type": "string", "pattern": "^[A-Z]$"},
    }
    shown = form_of({"type": "object", "properties": properties}).root.fields
    assert [one.hints for one in shown] == [
        ("More than 0 and at most 1,000,000",), (), ("At most 120 characters",), (), ("Must match ^[A-Z]$",),
    ]  # fmt: skip


def test_defaults_are_filled_in() -> None:
    """Also chosen options."""
    shown = fields(schema_of(Order))
    assert [option.label for option in shown["Size"].options if option.is_chosen] == ["m"]


@pytest.mark.parametrize("text", ["9007199254740993", "-12345678901234567890123456789", "0"])
def test_a_whole_number_keeps_every_digit(text: str) -> None:
    """There and back."""
    reading = read({"type": "integer"}, {"v": [text]})
    assert encode(reading.value) == text
    assert form_of({"type": "integer"}, {"v": [text]}).root.value == text


@pytest.mark.parametrize("text", ["1.5", "1e3", "1,000", "ten", "\uff11\uff12", "0x10", "1" * 5_000])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    """With its path, and nothing guessed."""
    assert [path for path, _ in read({"type": "integer"}, {"v": [text]}).problems] == ["$"]


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1_000", "--1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """JSON has no such numbers."""
    assert read({"type": "number"}, {"v": [text]}).problems


def test_a_decimal_keeps_its_digits_as_text() -> None:
    """0.10 is not 0.1 for money."""
    reading = read(schema_of(Decimal), {"v": ["1234567890.10"]})
    assert reading.value == "1234567890.10"
    assert not reading.problems


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("UTC", "2030-06-01T10:30:00Z"), ("+02:00", "2030-06-01T10:30:00+02:00"), ("", "2030-06-01T10:30:00")],
)
def test_a_time_has_the_zone_that_was_given(zone: str, expected: str) -> None:
    """UTC unless something else was typed; without one only on purpose."""
    schema = {"type": "string", "format": "date-time"}
    assert read(schema, {"v": ["2030-06-01T10:30"], "v#zone": [zone]}).value == expected


def test_a_zone_that_is_none_is_refused() -> None:
    """No abbreviation that means several zones."""
    schema = {"type": "string", "format": "date-time"}
    assert read(schema, {"v": ["2030-06-01T10:30"], "v#zone": ["CST"]}).problems


def test_what_is_required_and_empty_is_told_for_each_field() -> None:
    """All at once, with their paths."""
    reading = read(schema_of(Order), {})
    assert {path for path, _ in reading.problems} == {"$.customer", "$.colour", "$.gift", "$.items"} | {
        path for path, _ in reading.problems if path.startswith("$.items")
    }


def test_an_option_that_was_not_offered_is_refused() -> None:
    """A form that was tampered with."""
    assert read(schema_of(Colour), {"v": ['"blue"']}).problems
    assert read(schema_of(list[Colour]), {"v": ['"red"', '"blue"']}).problems


def test_an_optional_group_that_is_not_filled_in_is_null() -> None:
    """Whatever stands in its fields."""
    entries = entries_of(schema_of(Order)) | {"v/address/name": ["x"]}
    assert read(schema_of(Order), entries).value["address"] is None


def test_clearing_a_text_with_a_default_sends_the_empty_text() -> None:
    """Else the default would come back."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}}
    assert read(schema, {"v/a": [""]}).value == {"a": ""}


def test_a_row_is_added_and_removed_without_script() -> None:
    """What was typed into the others stays with them."""
    schema = schema_of(list[Item])
    entries = entries_of(schema, [{"name": name, "count": 1} for name in "abc"])
    removed = edited(schema, entries, "remove:v/1")
    assert removed is not None
    assert [item["name"] for item in read(schema, removed[0]).value] == ["a", "c"]
    added = edited(schema, removed[0], "add:v")
    assert added is not None
    assert added[0]["v#count"] == ["3"]
    assert added[1] == "v"


@pytest.mark.parametrize("edit", ["approve", "add:v/nowhere", "remove:v/7", "remove:v", "add:other", ""])
def test_an_edit_of_nothing_is_none(edit: str) -> None:
    """Decisions and forged names are no edits."""
    schema = schema_of(list[Item])
    assert edited(schema, entries_of(schema, []), edit) is None


def test_names_with_slashes_dots_and_signs_do_not_meet() -> None:
    """Properties are told apart whatever they are called."""
    names = ["a/b", "a", "a~1b", "a#on", "a.b", "", "#count", "é ü"]
    schema = {"type": "object", "required": names, "properties": {name: {"type": "string"} for name in names}}
    value = {name: f"value of {name!r}" for name in names}
    reading = read(schema, entries_of(schema, value))
    assert reading.value == value
    assert not reading.problems


def test_each_problem_leads_to_its_field() -> None:
    """Ids of the summary are ids of fields; a path below a field leads to that field."""
    problems = [("$.items[0].count", "too many"), ("$.items[0].count.int", "odd"), ("$.elsewhere", "lost")]
    entries = entries_of(schema_of(Order))
    form = form_of(schema_of(Order), entries, problems, prefix="q")
    row = fields(schema_of(Order), entries=entries, prefix="q")["Items"].fields[0]
    count = next(field for field in row.fields if field.label == "Count")
    assert [(identifier, label) for identifier, label, _ in form.problems] == [
        (count.id, "Item 1, Count"),
        (count.id, "Item 1, Count"),
        (form.root.id, "Order"),
    ]


def test_what_was_typed_is_kept_as_it_was_typed() -> None:
    """Also what is wrong."""
    form = form_of(schema_of(Item), {"v/name": ["x"], "v/count": ["1,000"]})
    assert [field.value for field in form.root.fields] == ["x", "1,000"]


def test_the_engine_s_own_check_is_made_before_anything_is_sent() -> None:
    """Limits of the schema are told together with what could not be read."""
    reading = read(schema_of(Item), {"v/name": [""], "v/count": ["99"]})
    assert dict(reading.problems) == {"$.name": "is required", "$.count": "must be at most 9"}


def test_an_empty_answer_to_a_question_is_no_answer() -> None:
    """Nothing was typed."""
    assert read({"type": "string"}, {}).value is ABSENT
    assert read({"type": "string"}, {}).problems == (("$", "is required"),)


def test_a_json_box_takes_json_only() -> None:
    """With what is wrong with it."""
    assert read({}, {"v": ['{"a": [1, 2.5, null]}']}).value == {"a": [1, 2.5, None]}
    assert read({}, {"v": ["{a: 1}"]}).problems
    assert read({}, {"v": ["[" * 100 + "]" * 100]}).problems


# ------------------------------------------------------------------------------------------- there and back

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8)
OPTIONS = ["red", "green", "with space", "ü", 1, 2.5, True]


def _scalars() -> st.SearchStrategy[tuple[dict[str, Any], Any]]:
    return st.one_of(
        st.tuples(st.just({"type": "string"}), TEXT),
        st.tuples(st.just({"type": "string", "maxLength": 10_000}), TEXT),
        st.tuples(st.just({"type": "integer"}), st.integers()),
        st.tuples(st.just({"type": "number"}), st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
        st.tuples(st.just({"type": "boolean"}), st.booleans()),
        st.tuples(st.just({"type": "string", "format": "date"}), st.dates().map(dt.date.isoformat)),
        st.tuples(st.just({"enum": OPTIONS}), st.sampled_from(OPTIONS)),
        st.tuples(st.just({}), JSON),
        st.tuples(
            st.just({"type": "array", "items": {"enum": OPTIONS[:5]}}),
            st.sets(st.sampled_from(range(5))).map(lambda chosen: [OPTIONS[index] for index in sorted(chosen)]),
        ),
    )


def _optional(pair: tuple[dict[str, Any], Any]) -> st.SearchStrategy[tuple[dict[str, Any], Any]]:
    schema, value = pair
    plain = schema == {} or schema.get("type") in ("array", "object")
    return (
        st.just(pair)
        if plain
        else st.tuples(st.just({"anyOf": [schema, {"type": "null"}]}), st.sampled_from([value, None]))
    )


def _object(parts: dict[str, tuple[dict[str, Any], Any]]) -> tuple[dict[str, Any], Any]:
    schema = {"type": "object", "properties": {name: part[0] for name, part in parts.items()}, "required": list(parts)}
    return schema, {name: part[1] for name, part in parts.items()}


def _rows(drawn: tuple[tuple[dict[str, Any], Any], int]) -> tuple[dict[str, Any], Any]:
    (schema, value), count = drawn
    return {"type": "array", "items": schema}, [value] * count


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PAIRS = st.recursive(
    _scalars() | _scalars().flatmap(_optional),
    lambda inner: (
        st.dictionaries(NAMES, inner, min_size=1, max_size=4).map(_object)
        | st.tuples(inner.filter(lambda pair: "enum" not in pair[0] and pair[1] is not None), st.integers(0, 3)).map(
            _rows
        )
    ),
    max_leaves=8,
)


@given(PAIRS)
def test_every_value_comes_back_as_it_went_in(pair: tuple[dict[str, Any], Any]) -> None:
    """Typed in and read back, a value is the same JSON, digit by digit."""
    schema, value = pair
    reading = read(schema, entries_of(schema, value))
    assert reading.problems == ()
    assert encode(reading.value) == encode(value)


@given(
    PAIRS,
    st.dictionaries(
        st.sampled_from(["v", "v#count", "v#on", "v/a", "v/0", "v/0#count"]), st.lists(st.text(max_size=5))
    ),
)
def test_no_entries_break_a_form(pair: tuple[dict[str, Any], Any], entries: dict[str, list[str]]) -> None:
    """Whatever a browser sends is read or refused, and shown again."""
    reading = read(pair[0], entries)
    form_of(pair[0], entries, reading.problems)
