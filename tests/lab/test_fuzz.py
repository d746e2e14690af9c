"""The byte fuzzer's small share, what it found before, and that its own parts do what they say."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from osprotocol._lifecycle.schema import problems_in, problems_of
from osprotocol.errors import InvalidValueError
from tests.lab import fuzz
from tests.lab.fuzzing import TARGETS
from tests.lab.fuzzing.corpus import inputs_of
from tests.lab.fuzzing.found import FOUND
from tests.lab.fuzzing.mutation import grown, mutated
from tests.lab.fuzzing.target import Target, Try, plain
from tests.lab.fuzzing.watch import bounded, watched
from tests.lab.harness import Tally, Violation, check_small


def test_small_share() -> None:
    """Some inputs of every target: each accepts some and refuses some."""
    check_small(fuzz.HARNESS)


def refuse(data: bytes) -> bool:
    raise InvalidValueError("value", (("$", "no"),))


def broken(attempt: Try) -> Target:
    return plain("broken", (b"[1]",), attempt)


def test_a_refusal_is_no_failure() -> None:
    """An error of ours is an answer."""
    assert not fuzz.give(broken(refuse), refuse, b"x")


def test_another_error_is_told_with_the_input() -> None:
    """So that it can be tried alone."""

    def fail(data: bytes) -> bool:
        raise KeyError("x")

    with pytest.raises(KeyError) as caught:
        fuzz.give(broken(fail), fail, b"the input")
    assert "b'the input'" in caught.value.__notes__[0]


def test_opening_a_file_is_seen(tmp_path: Path) -> None:
    """Also if what opened it goes on as if nothing was."""

    def open_file(data: bytes) -> bool:
        (tmp_path / "x").write_bytes(data)
        return True

    with pytest.raises(Violation, match="it caused open"):
        fuzz.give(broken(open_file), open_file, b"x")


@pytest.mark.parametrize("code", ["import this_is_no_module", "exec('1')", "import subprocess; subprocess.Popen('no')"])
def test_loading_and_running_is_seen(code: str) -> None:
    """Whether it works or not."""
    compiled = compile(code, "x", "exec")

    def run(data: bytes) -> bool:
        with suppress(ImportError, OSError):
            exec(compiled, {})
        return True

    with pytest.raises(Violation, match="it caused"):
        fuzz.give(broken(run), run, b"x")


def test_what_is_allowed_is_not_told(tmp_path: Path) -> None:
    """By the beginning of the event."""
    with watched(("open",)):
        (tmp_path / "x").write_bytes(b"")


def test_memory_is_watched() -> None:
    """The most that there was at once."""
    with pytest.raises(Violation, match="bytes of memory"), bounded():
        (b"x" * 80 * 1_048_576).count(b"y")


def test_a_square_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that grows with the square of the length, by what it costs."""

    def square(data: bytes) -> bool:
        for start in range(0, len(data), 512):
            sum(data[start:])
        return True

    monkeypatch.setattr(fuzz, "SLOW_S", 0.0)

    with pytest.raises(Violation, match="take"):
        fuzz.check_growth(broken(square), square, b"abc", Random(1), Tally())


def test_the_same_number_gives_the_same_inputs() -> None:
    """And other numbers give others."""
    known = inputs_of(TARGETS[0])
    one, two, three = ([mutated(known[0], chance, known) for _ in range(50)] for chance in map(Random, (1, 1, 2)))
    assert one == two != three


def test_long_inputs_are_long() -> None:
    """Whatever they are made of."""
    assert all(len(grown(data, Random(1), 9_000)) > 8_000 for data in (b"", b"x", b"[1,2]" * 20))


@pytest.mark.parametrize("target", [one for one in TARGETS if one.name in FOUND], ids=lambda one: one.name)
def test_what_was_found_before(target: Target) -> None:
    """Inputs that found something are refused as they should be, or accepted."""
    with target.open() as attempt, bounded():
        for data in FOUND[target.name]:
            fuzz.give(dataclasses.replace(target, may=("",)), attempt, data)


def test_what_was_found_is_of_targets_that_there_are() -> None:
    """A target that was renamed keeps what it found."""
    assert set(FOUND) <= {one.name for one in TARGETS}


# ------------------------------------------------------------- what it found, as plain scenarios


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"minLength": "x"}, "$.minLength"),
        ({"anyOf": 7}, "$.anyOf"),
        ({"properties": {"a": {"enum": 1}}}, "$.properties.a.enum"),
        ({"items": [1]}, "$.items"),
        ({"multipleOf": 0}, "$.multipleOf"),
        ({"required": [1]}, "$.required"),
        ({"allOf": [{"$defs": []}]}, "$.allOf[0].$defs"),
    ],
)
def test_a_schema_that_is_none_is_told_by_its_path(schema: object, path: str) -> None:
    """And holding an answer against it raises nothing: once it met people as an unexpected TypeError."""
    assert [found for found, _ in problems_of(schema)] == [path]
    for answer in ("text", 5, 10**400, [1], {"a": 1}, None):
        problems_in(answer, schema)


def test_references_that_branch_take_no_time() -> None:
    """Twenty lines of schema held the database for half a minute, forty for ever."""
    twice = {f"A{n}": {"allOf": [{"$ref": f"#/$defs/A{n + 1}"}] * 2} for n in range(40)}
    schema = {"$defs": {**twice, "A40": {"type": "string"}}, "$ref": "#/$defs/A0"}
    assert problems_of(schema) == ()
    problems_in("x", schema)
    problems_in(5, {"type": "string", **schema})
