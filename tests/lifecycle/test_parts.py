"""Backoff, positions and the check of answers against a JSON Schema."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from osprotocol import _limits
from osprotocol._json import encode
from osprotocol._lifecycle.policy import backoff_us, parse_policy, policy_text, step_backoff_us
from osprotocol._lifecycle.positions import forgotten, parts, saw
from osprotocol._lifecycle.schema import problems_in
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions
from osprotocol.protocol.timeout import Timeout

# ------------------------------------------------------------------------------------------------- backoff


@pytest.mark.parametrize(
    ("backoff", "delays_ms"),
    [("none", [200, 200, 200, 200]), ("linear", [200, 400, 600, 800]), ("exponential", [200, 400, 800, 1_600])],
)
def test_each_backoff_has_its_formula(backoff: str, delays_ms: list[int]) -> None:
    """None: delay; linear: n * delay; exponential: delay * 2 ** (n - 1)."""
    assert [backoff_us(n, 200, backoff, None, 0, 0) for n in range(1, 5)] == [delay * 1_000 for delay in delays_ms]


def test_the_cap_is_before_the_jitter() -> None:
    """A capped delay of a second with half of jitter is at most one and a half."""
    assert backoff_us(10, 1_000, "exponential", 1_000, 0.5, 1.0) == 1_500_000


@given(
    st.integers(1, 1_000_000), st.integers(0, _limits.DURATION_MS), st.sampled_from(["none", "linear", "exponential"]),
    st.none() | st.integers(0, _limits.DURATION_MS), st.floats(0, 1), st.floats(0, 1),
)  # fmt: skip
def test_a_delay_is_bounded(n: int, delay: int, backoff: str, cap: int | None, jitter: float, fraction: float) -> None:
    """Never negative, never over twice the longest duration, never over the cap and its jitter."""
    found = backoff_us(n, delay, backoff, cap, jitter, fraction)
    longest = _limits.DURATION_MS if cap is None else cap
    assert 0 <= found <= longest * 1_000 * (1 + jitter) + 1


def test_a_steps_retry_uses_the_same_formula() -> None:
    """Step and run delays are one function."""
    retry = Retry(attempts=3, delay_ms=100, backoff="linear", max_delay_ms=150)
    assert [step_backoff_us(retry, n, 0.5) for n in (1, 2)] == [100_000, 150_000]


def test_options_survive_their_stored_form() -> None:
    """What is stored of the options is what deciding reads."""
    options = RunOptions(
        timeout=Timeout(ms=5, on_timeout="cancel", clock="wall"),
        retry=Retry(attempts=2, delay_ms=7, backoff="linear", max_delay_ms=9, jitter=0.25),
        cancel=Cancel(reason="r", graceful=False, graceful_timeout_ms=11),
    )
    text = policy_text(options.timeout, options.retry, options.cancel)
    assert parse_policy(text) == (5, "cancel", "wall", 2, 7, "linear", 9, 0.25, "r", False, 11)


def test_default_options_are_stored_as_nothing() -> None:
    """A run without options costs no bytes for them."""
    assert policy_text(None, None, None) == "{}"


# ----------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize(
    ("position", "failure", "seen"),
    [
        ("4", "3", True),
        ("2", "3", False),
        ("3", "3", False),
        ("4", "3.1.1", True),  # behind the gather that joined the branch
        ("3.1.2", "3.1.1", True),  # later in the same branch
        ("3.2.1", "3.1.1", False),  # a branch beside it
        ("3.2.9", "3.1.1", False),
        ("3.1.2.5.1", "3.1.1", True),
        ("10", "9", True),  # numbers, not text
        ("3.1.1", "4", False),
    ],
)
def test_code_saw_an_outcome_when_it_stands_behind_it(position: str, failure: str, seen: bool) -> None:
    """Later in the branch, or behind the gather that joined it; never in a branch beside it."""
    assert saw(position, failure) is seen


def test_a_new_attempt_forgets_the_failure_and_what_saw_it() -> None:
    """Siblings of the failed branch stay."""
    positions = ["1", "2.1.1", "2.1.2", "2.2.1", "2.2.2", "3", "4.1.1"]
    assert forgotten(positions, "2.1.1") == ["2.1.1", "2.1.2", "3", "4.1.1"]


_positions = st.lists(st.integers(1, 4), min_size=1, max_size=7).filter(lambda numbers: len(numbers) % 2 == 1)


@given(_positions, _positions, _positions)
def test_having_seen_is_a_strict_order(one: list[int], two: list[int], three: list[int]) -> None:
    """Nothing saw itself, no two saw each other, and what saw what saw it has seen it."""
    a, b, c = (".".join(map(str, numbers)) for numbers in (one, two, three))
    assert not saw(a, a)
    assert not (saw(a, b) and saw(b, a))
    assert parts(a) == tuple(one)
    if saw(a, b) and saw(b, c):
        assert saw(a, c)


# -------------------------------------------------------------------------------------------------- schema


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=5, pattern="^[a-z]+$")]
    price: Annotated[float, Field(gt=0, le=100)]


class Order(BaseModel, extra="forbid"):
    items: Annotated[list[Item], Field(min_length=1, max_length=2)]
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] | None = None
    notes: dict[str, int] = {}
    pair: tuple[int, str] | None = None


SCHEMA = Order.model_json_schema()
GOOD: dict[str, Any] = {"items": [{"name": "pen", "price": 1.5}]}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"items": []}, "$.items"),
        ({"items": [GOOD["items"][0]] * 3}, "$.items"),
        ({"items": [{"name": "pen"}]}, "$.items[0].price"),
        ({"items": [{"name": "", "price": 1}]}, "$.items[0].name"),
        ({"items": [{"name": "Pen1", "price": 1}]}, "$.items[0].name"),
        ({"items": [{"name": "pencil", "price": 1}]}, "$.items[0].name"),
        ({"items": [{"name": "pen", "price": 0}]}, "$.items[0].price"),
        ({"items": [{"name": "pen", "price": 101}]}, "$.items[0].price"),
        ({"items": [{"name": "pen", "price": "1"}]}, "$.items[0].price"),
        ({"items": [{"name": "pen", "price": True}]}, "$.items[0].price"),
        ({"items": "pen"}, "$.items"),
        ({"colour": "green"}, "$.colour"),
        ({"kind": "c"}, "$.kind"),
        ({"notes": {"x": "y"}}, "$.notes.x"),
        ({"pair": [1, 2]}, "$.pair[1]"),
        ({"more": 1}, "$.more"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(change: dict[str, Any], path: str) -> None:
    """Every problem is told at the part that is wrong."""
    problems = problems_in({**GOOD, **change}, SCHEMA)
    assert {found for found, _ in problems} == {path}


def test_a_value_that_fits_has_no_problem() -> None:
    """Defaults may be left out, integers are numbers, null is allowed where the type says so."""
    assert problems_in({**GOOD, "kind": None, "notes": {"x": 1}, "pair": [1, "b"]}, SCHEMA) == ()


def test_a_value_that_is_no_object_is_told_at_the_root() -> None:
    """`$` is the whole value."""
    assert problems_in(3, SCHEMA) == (("$", "must be an object"),)


@pytest.mark.parametrize("schema", [{}, True, {"format": "made-up"}, {"pattern": "(?<unclosed"}, {"$ref": "#/none"}])
def test_what_the_check_does_not_know_it_lets_pass(schema: Any) -> None:
    """The worker, which has the type, has the last word."""
    assert problems_in("x", schema) == ()


def test_a_schema_that_refers_to_itself_ends() -> None:
    """Depth is bounded, so neither a cyclic schema nor a deep value can hang a process."""
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "integer"}]}}}
    assert problems_in(1, schema) == ()


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 105) | st.floats(-5, 105) | st.sampled_from(["red", "pen", "", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["items", "name", "price", "colour", "kind", "notes", "pair"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(_json)
def test_nothing_that_the_type_accepts_is_refused(value: Any) -> None:
    """In strict JSON terms: what pydantic takes without converting passes the check of the schema."""
    adapter = TypeAdapter(Order)
    try:
        adapter.validate_json(encode(value), strict=True)
    except ValidationError:
        return
    assert problems_in(value, SCHEMA) == ()
