"""Words on the command line become values."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from osprotocol.cli.exits import CommandError
from osprotocol.cli.values import duration, input_of, labels, moment, resolve, retry, value_for
from osprotocol.errors import InvalidValueError

TEXT = {"type": "string"}
ORDER = {
    "type": "object",
    "properties": {"item": TEXT, "count": {"type": "integer"}, "note": {"anyOf": [TEXT, {"type": "null"}]}},
    "required": ["item", "count"],
}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("500ms", 0.5), ("5m", 300), ("1h30m", 5_400), ("7d", 604_800)]
)
def test_durations_have_units_and_a_bare_number_is_seconds(text: str, seconds: float) -> None:
    """Several units add up."""
    assert duration(text, "--timeout") == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "x", "5 m", "-3s", "1y", "nan", "1e3", "99999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """The error names the option."""
    with pytest.raises(CommandError, match="--timeout"):
        duration(text, "--timeout")


def test_a_moment_is_an_instant_or_a_while_ago() -> None:
    """An instant without a zone is UTC."""
    assert moment("2026-01-02T03:04:05", "--since") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert moment("2h", "--since") < moment("1h", "--since")
    with pytest.raises(CommandError, match="--since"):
        moment("yesterday", "--since")


def test_retry_is_count_delay_and_backoff() -> None:
    """Each later part may be left out."""
    assert retry("3").attempts == 3
    full = retry("2:1s:exponential")
    assert (full.attempts, full.delay_ms, full.backoff) == (2, 1_000, "exponential")
    for wrong in ("", "x", "3:1s:cubic", "-1", "²"):
        with pytest.raises(CommandError, match="--retry"):
            retry(wrong)


def test_labels_are_names_and_values() -> None:
    """The value may hold the sign again."""
    assert labels(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(CommandError, match="--label"):
        labels(["nothing"])


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (['{"item": "x", "count": 2}'], {"item": "x", "count": 2}),
        (["item=x", "count=2"], {"item": "x", "count": 2}),
        (["item=5", "count=2"], {"item": "5", "count": 2}),
        (["item=a=b", "count=two"], {"item": "a=b", "count": "two"}),
        (["item=", "note=null"], {"item": "", "note": None}),
        (["item=x", "note=free text"], {"item": "x", "note": "free text"}),
    ],
)
def test_an_object_is_json_or_pairs(words: list[str], value: Any) -> None:
    """The schema tells whether the word after the sign is a text or JSON."""
    assert input_of(words, ORDER, "input") == value


@pytest.mark.parametrize("word", ["Tokyo", "5", "a=b", "[x", "true", ""])
def test_where_text_is_wanted_the_word_is_the_text(word: str) -> None:
    """No quotes are needed, nothing is interpreted."""
    assert input_of([word], TEXT, "input") == word


def test_a_quoted_json_text_is_unquoted() -> None:
    """So that a text can begin with @ or be a single dash."""
    assert input_of(['"@x"'], TEXT, "input") == "@x"


def test_a_file_is_named_with_an_at_sign(tmp_path: Path) -> None:
    """For an object its JSON, for a text its content without the last line feed."""
    (tmp_path / "in.json").write_text('{"item": "x", "count": 2}\n', encoding="utf-8")
    (tmp_path / "in.md").write_text("# a\nb\n", encoding="utf-8")
    assert input_of([f"@{tmp_path}/in.json"], ORDER, "input") == {"item": "x", "count": 2}
    assert input_of([f"{tmp_path}/in.json"], ORDER, "input") == {"item": "x", "count": 2}
    assert input_of([f"@{tmp_path}/in.md"], TEXT, "input") == "# a\nb"
    with pytest.raises(CommandError, match="No such file"):
        input_of([f"@{tmp_path}/none"], ORDER, "input")


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere in a shell."""
    monkeypatch.setattr("sys.stdin", StringIO('{"item": "x"}'))
    assert input_of(["-"], ORDER, "input") == {"item": "x"}


def test_words_that_are_no_input_are_refused() -> None:
    """Several words are pairs or nothing; a name is given once; broken JSON is named."""
    with pytest.raises(CommandError, match="one JSON value"):
        input_of(["a", "b"], TEXT, "input")
    with pytest.raises(CommandError, match="twice"):
        input_of(["item=x", "item=y"], ORDER, "input")
    with pytest.raises(InvalidValueError, match="not JSON"):
        input_of(['{"item": '], ORDER, "input")


def test_numbers_that_json_does_not_have_are_text() -> None:
    """NaN and Infinity are never numbers."""
    assert value_for("NaN", {"type": "number"}, "x") == "NaN"


def test_references_and_optional_types_are_followed() -> None:
    """What is shown to a person is the schema that counts; a circle ends."""
    root = {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"type": "integer"}, "C": {"$ref": "#/$defs/C"}}}
    assert resolve({"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}, root) == {"type": "integer"}
    assert resolve({"$ref": "#/$defs/C"}, root) == {}
