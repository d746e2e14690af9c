"""The codec: what a value must be to be stored, and that it comes back as it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, PlainSerializer, SecretBytes, SecretStr, TypeAdapter

from osprotocol import _limits
from osprotocol._json import Codec, arguments_digest, canonical, codec, find_problem, parse, path_of
from osprotocol.errors import InvalidValueError, LimitExceededError, WorkflowDefinitionError


@dataclass
class Point:
    x: float
    y: float = 0.0


class Colour(Enum):
    RED = "red"


class Order(BaseModel):
    id: int
    price: float = 1.0
    tags: set[str] = set()
    at: datetime | None = None
    inner: dict[str, list[Point]] = {}


class WithSecret(BaseModel):
    name: str
    token: SecretStr


def dumped(annotation: Any, value: Any) -> Any:
    return Codec[Any](annotation, "value").dump(value)[1]


def problem(annotation: Any, value: Any) -> tuple[str, str]:
    with pytest.raises(InvalidValueError) as caught:
        Codec[Any](annotation, "result of step 'load'").dump(value)
    assert str(caught.value).startswith("result of step 'load' is not valid: $")
    return caught.value.problems[0]


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("annotation", [Any, float, float | None])
def test_numbers_that_json_does_not_have_are_refused(bad: float, annotation: Any) -> None:
    """NaN and the infinities, at the root."""
    assert problem(annotation, bad) == ("$", f"{bad} is not a JSON number")


@pytest.mark.parametrize("annotation", [Any, dict[str, list[float]]])
def test_a_bad_number_is_named_by_its_path(annotation: Any) -> None:
    """`$.a[1]` is the second item of the list at a."""
    assert problem(annotation, {"a": [1.0, math.nan]})[0] == "$.a[1]"


def test_a_bad_number_inside_a_model_is_named_by_its_path() -> None:
    """Through models and dataclasses alike."""
    order = Order.model_construct(id=1, inner={"k": [Point(1.0), Point(math.inf)]})
    assert problem(Order, order)[0] == "$.inner.k[1].x"


@pytest.mark.parametrize("annotation", [Any, str, list[str]])
def test_lone_surrogates_are_refused(annotation: Any) -> None:
    """They are no text, whatever Python thinks."""
    value: Any = ["ok", "\ud800"] if annotation is not str else "\ud800"
    path, message = problem(annotation, value)
    assert path == ("$" if annotation is str else "$[1]")
    assert "surrogate" in message or "unicode" in message


def test_a_lone_surrogate_in_a_key_is_refused() -> None:
    """Keys are text too."""
    problem(Any, {"\ud800": 1})
    problem(dict[str, int], {"\ud800": 1})


@pytest.mark.parametrize("secret", [SecretStr("s3cret"), SecretBytes(b"s3cret")])
def test_secrets_are_refused_and_not_shown(secret: Any) -> None:
    """They would come back as stars, and the store is no place for them."""
    with pytest.raises(InvalidValueError) as caught:
        Codec[Any](type(secret), "value").dump(secret)
    assert "secret" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_secret_in_a_model_is_named_by_its_path() -> None:
    """With what to do instead."""
    path, message = problem(WithSecret, WithSecret(name="x", token=SecretStr("s3cret")))
    assert path == "$.token"
    assert "reference" in message


@pytest.mark.parametrize("key", [1, 1.5, None, True, (1, 2), b"x"])
def test_keys_that_are_not_text_are_refused(key: Any) -> None:
    """JSON would make text of them, and replay would find another key."""
    path, message = problem(Any, {"a": {key: 1}})
    assert path == "$.a"
    assert "is not text" in message


@pytest.mark.parametrize(
    "value",
    [{1, 2}, frozenset("a"), b"x", Point(1.0), Order(id=1), datetime.now(UTC), Decimal(1), object(), 1j, Colour],
)
def test_without_a_declared_type_only_plain_json_is_taken(value: Any) -> None:
    """What needs a type to come back needs a declared one; the error says so."""
    path, message = problem(Any, {"a": [value]})
    assert path == "$.a[0]"
    assert "annotate" in message


def test_a_value_that_does_not_fit_its_type_is_refused() -> None:
    """With the path of each problem."""
    with pytest.raises(InvalidValueError) as caught:
        Codec[Any](Order, "value").dump({"id": "x", "price": "y"})
    assert [path for path, _ in caught.value.problems] == ["$.id", "$.price"]


def test_a_type_that_cannot_be_stored_is_the_workflows_mistake() -> None:
    """It is told when the type is first used."""

    class Strange:
        pass

    with pytest.raises(WorkflowDefinitionError, match="cannot be used"):
        Codec[Any](Strange, "result of step 'load'").dump(Strange())


def test_what_a_type_leaves_out_is_gone_at_once() -> None:
    """The first pass already gets what replay will get."""

    class Partial(BaseModel):
        kept: int
        left_out: int = Field(default=0, exclude=True)

    assert dumped(Partial, Partial(kept=1, left_out=2)) == Partial(kept=1)


def test_a_value_that_does_not_come_back_is_refused() -> None:
    """A type that cannot read what it writes would fail on replay."""

    class OneWay(BaseModel):
        at: Annotated[datetime, PlainSerializer(lambda at: "yesterday")]

    assert "does not survive JSON" in problem(OneWay, OneWay(at=datetime.now(UTC)))[1]


# ------------------------------------------------------------------------------------------ size and depth


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_up_to_the_limit_is_taken() -> None:
    """JSON_DEPTH levels are fine."""
    assert dumped(Any, nested(_limits.JSON_DEPTH)) == nested(_limits.JSON_DEPTH)


@pytest.mark.parametrize("depth", [_limits.JSON_DEPTH + 2, 100_000])
def test_nesting_over_the_limit_is_refused(depth: int) -> None:
    """With the limit's name, and without Python's recursion limit."""
    assert "JSON_DEPTH = 64" in problem(Any, nested(depth))[1]


def test_nesting_over_the_limit_is_refused_with_a_declared_type_too() -> None:
    """A type as loose as `list` does not lift the limit."""
    assert "JSON_DEPTH = 64" in problem(list[Any], nested(_limits.JSON_DEPTH + 2))[1]


def test_a_value_that_contains_itself_is_refused() -> None:
    """It would have no end."""
    value: list[Any] = []
    value.append(value)
    problem(Any, value)
    problem(list[Any], value)


def test_size_is_limited_by_name() -> None:
    """The error tells size and limit."""
    with pytest.raises(
        LimitExceededError, match=r"result of step 'load': [\d,]+ bytes, the limit PAYLOAD_BYTES is 1,048,576"
    ):
        Codec[Any](str, "result of step 'load'").dump("x" * _limits.PAYLOAD_BYTES)


def test_size_counts_bytes_not_characters() -> None:
    """Two bytes each."""
    with pytest.raises(LimitExceededError):
        Codec[Any](str, "value").dump("é" * (_limits.PAYLOAD_BYTES // 2))


# ---------------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (tuple[int, str], (1, "x")),
        (tuple[int, ...], (1, 2, 3)),
        (set[int], {3, 1, 2}),
        (frozenset[str], frozenset({"a", "b"})),
        (Point, Point(1.5, 2.0)),
        (Order, Order(id=1, tags={"b", "a"}, at=datetime(2026, 1, 1, tzinfo=UTC), inner={"k": [Point(1.0)]})),
        (dict[int, str], {1: "x"}),
        (dict[date, int], {date(2026, 1, 1): 1}),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=7)),
        (Colour, Colour.RED),
        (timedelta, timedelta(days=1, microseconds=1)),
        (bytes, b"plain"),
        (int, 10**30),
        (int, -(2**63) - 1),
        (float, 1e308),
        (float, 5e-324),
        (float, 0.1 + 0.2),
        (str, "\u0000\u2028\U0001f600"),
        (Point | None, None),
        (int | str, "1"),
    ],
)
def test_a_value_comes_back_equal_and_of_its_type(annotation: Any, value: Any) -> None:
    """Through the JSON and the declared type."""
    data, back = Codec[Any](annotation, "value").dump(value)
    assert (back, type(back)) == (value, type(value))
    assert Codec[Any](annotation, "value").load(data) == value


def test_what_the_first_pass_gives_is_what_replay_gives() -> None:
    """Without a type a tuple is a list both times."""
    data, back = Codec[Any](Any, "value").dump({"a": (1, 2)})
    assert back == {"a": [1, 2]} == Codec[Any](Any, "value").load(data)


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, 2**64, -(2**70), 10**400])
@pytest.mark.parametrize("annotation", [Any, int])
def test_big_integers_are_exact(number: int, annotation: Any) -> None:
    """They never go through a float."""
    assert dumped(annotation, number) == number


def test_a_subclass_comes_back_as_what_was_declared() -> None:
    """An enum of text without a declared type comes back as its text, on the first pass already."""

    class Loud(str):
        __slots__ = ()

    back = dumped(Any, {"a": Loud("x")})["a"]
    assert (back, type(back)) == ("x", str)


def test_input_is_converted_like_pydantic_does() -> None:
    """A dictionary becomes the model."""
    assert dumped(Order, {"id": 3}) == Order(id=3)


def test_a_type_adapter_is_a_type() -> None:
    """What `wait_for_input` takes."""
    assert dumped(TypeAdapter(list[int]), [1]) == [1]


def test_codecs_are_made_once() -> None:
    """The same type and name share one."""
    assert codec(Order, "value") is codec(Order, "value")


_text = st.text(st.characters(exclude_categories=["Cs"]))
_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(_plain)
def test_any_plain_value_survives(value: Any) -> None:
    """What JSON can carry comes back equal, in JSON's own types."""
    data, back = Codec[Any](Any, "value").dump(value)
    assert back == value
    assert Codec[Any](Any, "value").load(data) == value
    assert find_problem(value) is None


@given(st.builds(Order, id=st.integers(), price=st.floats(allow_nan=False, allow_infinity=False), tags=st.sets(st.text(
    st.characters(exclude_categories=["Cs"])), max_size=4), inner=st.dictionaries(st.sampled_from("abc"), st.lists(
        st.builds(Point, st.floats(allow_nan=False, allow_infinity=False)), max_size=3))))  # fmt: skip
def test_any_model_survives(order: Order) -> None:
    """With sets, dataclasses and every float."""
    assert dumped(Order, order) == order


@given(st.recursive(
    st.sampled_from([1, "x", None, math.nan, math.inf, "\udfff", SecretStr("x"), {1: 2}, {1}, b"\xff", object()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=3), max_leaves=6,
))  # fmt: skip
def test_any_other_value_is_refused_with_a_path(value: Any) -> None:
    """Either it survives, or the error is ours and names a place."""
    for annotation in (Any, list[Any], dict[str, Any]):
        try:
            data, back = Codec[Any](annotation, "value").dump(value)
        except InvalidValueError as error:
            paths = [path for path, _ in error.problems]
        else:
            paths = []
            assert back == Codec[Any](annotation, "value").load(data)
        assert all(path.startswith("$") for path in paths)


# ------------------------------------------------------------------------------------ digests, other doors


def test_the_canonical_form_does_not_depend_on_order() -> None:
    """Equal values have one text: keys and sets are sorted."""
    assert canonical({"b": 1, "a": {3, 1, 2}}) == canonical({"a": {2, 3, 1}, "b": 1}) == b'{"a":[1,2,3],"b":1}'


@given(_plain)
def test_equal_arguments_have_equal_digests(value: Any) -> None:
    """After a round trip through JSON too."""
    back = Codec[Any](Any, "value").dump(value)[1]
    assert arguments_digest((value,), {}) == arguments_digest((back,), {})


def test_different_arguments_have_different_digests() -> None:
    """Positions and names count."""
    digests = [
        arguments_digest((1,), {}), arguments_digest(("1",), {}), arguments_digest((1, 2), {}),
        arguments_digest(([1, 2],), {}), arguments_digest((), {"a": 1}), arguments_digest((), {}),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)


def test_arguments_without_a_json_form_count_by_their_type() -> None:
    """A connection or a lock may be passed to a step."""
    assert arguments_digest((object(),), {}) == arguments_digest((object(),), {})


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", "", "'x'", "[1,]", '"\\ud800"', "nul", "1 2"])
def test_text_from_outside_is_read_strictly(text: str) -> None:
    """What is not JSON is refused as such."""
    with pytest.raises(InvalidValueError):
        parse(text, "answer")


def test_text_from_outside_is_bounded_in_depth() -> None:
    """A million brackets do not crash the process."""
    with pytest.raises(InvalidValueError):
        parse("[" * 500_000, "answer")
    with pytest.raises(InvalidValueError, match="JSON_DEPTH"):
        parse("[" * 100 + "]" * 100, "answer")


def test_text_from_outside_is_bounded_in_bytes() -> None:
    """Characters of more than one byte count as their bytes."""
    with pytest.raises(LimitExceededError, match="PAYLOAD_BYTES"):
        parse('"' + "é" * (_limits.PAYLOAD_BYTES // 2) + '"', "answer")


def test_a_path_is_written_like_code() -> None:
    """Fields with a dot, positions in brackets."""
    assert path_of(("items", 2, "price")) == "$.items[2].price"
