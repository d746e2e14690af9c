"""What `osp` prints cannot harm a terminal and stays data in a pipe."""

import json

import pytest

from osprotocol.cli.output import clean, duration, short, to_json, write_table

HARMFUL = "\x00\x07\x1b\x7f\x9b\xad\u061c\u200b\u200e\u200f\u2028\u202a\u202e\u2066\u2069\ufeff\U000e0041\ud800"


def test_control_and_bidi_characters_become_escapes() -> None:
    """Nothing of what makes a terminal act, or turns text around, comes out of `clean`."""
    assert clean("a\x1b[31mb\u202ec") == "a\\x1b[31mb\\u202ec"
    assert not set(HARMFUL) & set(clean(HARMFUL))


def test_ordinary_text_stays_as_it_is() -> None:
    """Letters of any script, emoji of several parts and punctuation pass."""
    text = "Grüße, 東京, עברית, العربية, 👩\u200d💻 – “x”"
    assert clean(text) == text


def test_line_feeds_stay_where_text_stands_alone() -> None:
    """`lines=True` keeps line feeds and tabs, and still no carriage return."""
    assert clean("a\n\tb\rc", lines=True) == "a\n\tb\\rc"
    assert clean("a\nb") == "a\\nb"


def test_json_is_harmless_and_still_the_same_json() -> None:
    """What is escaped in JSON is escaped in JSON's own way."""
    value = {"text": HARMFUL[:-1], "é": "東京"}
    line = to_json(value)
    assert not set(HARMFUL) & set(line)
    assert "東京" in line
    assert json.loads(line) == value


def test_a_table_in_a_pipe_is_tabs_without_titles(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are lines, columns are parted by tabs, and a tab inside a value is escaped."""
    write_table(("A", "B"), [("x\ty", 1), (None, "z")], "nothing")
    assert capsys.readouterr() == ("x\\ty\t1\n\tz\n", "")


def test_an_empty_table_in_a_pipe_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets no text for people."""
    write_table(("A",), [], "nothing here")
    assert capsys.readouterr() == ("", "")


def test_a_short_text_is_one_line() -> None:
    """Only the first line, cut with an ellipsis."""
    assert short("one\ntwo") == "one"
    assert short("x" * 70) == "x" * 59 + "…"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (3_725, "1h 2m"), (90_000, "1d 1h"), (-5, "0s")]
)
def test_lengths_of_time_have_two_units(seconds: int, text: str) -> None:
    """The two largest units tell enough."""
    from datetime import timedelta

    assert duration(timedelta(seconds=seconds)) == text
