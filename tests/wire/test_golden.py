"""Every wire shape against the JSON file that other programs were written for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osprotocol.errors import InvalidOptionError
from osprotocol.protocol import approval, cancel, events, request, retry, run, timeout
from osprotocol.protocol._wire import Options, Wire
from osprotocol.protocol.events import Page
from osprotocol.protocol.run import FINAL_STATUSES, RunStatus
from tests.wire.shapes import SHAPES

GOLDEN = Path(__file__).with_name("golden")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# Inside these stands what users gave: its keys are theirs.
OPAQUE = {"payload", "answer", "data", "fields", "labels", "schema", "inputSchema", "outputSchema", "result", "details"}


def keys_of(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield key, child
            if key not in OPAQUE:
                yield from keys_of(child)
    elif isinstance(value, list):
        for child in value:
            yield from keys_of(child)


def classes() -> set[type[Wire]]:
    modules = (approval, cancel, events, request, retry, run, timeout)
    return {
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Wire) and found.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_its_golden_form(name: str) -> None:
    """The JSON of a shape is what its golden file holds; a change here breaks other programs."""
    assert SHAPES[name].to_wire() == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def test_no_golden_file_is_left_over() -> None:
    """Each file belongs to a shape."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(SHAPES)


def test_every_wire_class_has_a_golden_file() -> None:
    """A shape that is not pinned down here could change without anybody noticing."""
    shown = {base for shape in SHAPES.values() for base in type(shape).__mro__}
    assert classes() - {Page} <= shown


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_comes_back_from_the_wire_the_same(name: str) -> None:
    """Parsing what was sent gives an equal form; instants are exact to the millisecond."""
    shape = SHAPES[name]
    sent = shape.to_wire()
    back = shape.from_wire(sent) if isinstance(shape, Options) else type(shape).model_validate(sent)
    assert back.to_wire() == sent


@pytest.mark.parametrize("name", SHAPES)
def test_keys_are_camel_case(name: str) -> None:
    """Every key that is ours is camelCase."""
    assert [key for key, _ in keys_of(SHAPES[name].to_wire()) if not re.fullmatch("[a-z]+([A-Z][a-z]*)*", key)] == []


@pytest.mark.parametrize("name", SHAPES)
def test_instants_have_milliseconds_and_end_in_z(name: str) -> None:
    """ISO 8601 in UTC, always with three digits."""
    found = [
        value
        for key, value in keys_of(SHAPES[name].to_wire())
        if value is not None and (key.endswith("At") or key in ("at", "since", "until", "timestamp"))
    ]
    assert [value for value in found if not INSTANT.fullmatch(value)] == []


@pytest.mark.parametrize("name", SHAPES)
def test_durations_are_whole_milliseconds(name: str) -> None:
    """Whatever was given, a timedelta too."""
    found = [value for key, value in keys_of(SHAPES[name].to_wire()) if key.endswith("Ms") and value is not None]
    assert all(type(value) is int for value in found)


def test_functions_never_go_over_the_wire() -> None:
    """Callbacks live in a process only."""
    assert not [
        key for key, _ in keys_of(SHAPES["run-options"].to_wire()) if key.startswith("on") and key != "onTimeout"
    ]


def test_a_shape_cannot_be_changed() -> None:
    """A snapshot is what was at its event, for ever."""
    with pytest.raises(ValueError, match="frozen"):
        SHAPES["run-snapshot"].id = "x"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "sent",
    [
        {"idempotencykey": "k"},
        {"retry": {"delay": 1}},
        {"retry": {"delayMs": -1}},
        {"retry": {"delayMs": "1"}},
        {"retry": {"attempts": 1.5}},
        {"timeout": {}},
        {"timeout": {"ms": True}},
        {"cancel": {"gracefulTimeoutMs": 10**18}},
        {"onComplete": "os.system"},
        {"labels": {"": "x"}},
        {"idempotencyKey": ""},
        [],
    ],
)
def test_options_from_the_wire_are_checked(sent: Any) -> None:
    """An unknown or senseless option is one error of ours that names it, not silence."""
    with pytest.raises(InvalidOptionError) as caught:
        run.RunOptions.from_wire(sent)
    assert "\n" not in str(caught.value)


def test_unknown_keys_are_refused() -> None:
    """A shape takes exactly its own fields."""
    with pytest.raises(ValueError, match="extra"):
        run.ExecutionProgress.model_validate({"step": 1})


def test_there_are_six_statuses() -> None:
    """Their names are the protocol's; three of them are final."""
    assert [status.value for status in RunStatus] == [
        "pending", "in-progress", "awaiting", "completed", "failed", "cancelled"
    ]  # fmt: skip
    assert {status for status in RunStatus if status.is_final} == FINAL_STATUSES
    assert {status.value for status in FINAL_STATUSES} == {"completed", "failed", "cancelled"}
