"""What a decision is about, as it is drawn."""

import re
from html import unescape
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from osprotocol.server.console.payload import ITEMS_SHOWN, change_in, folded_in, payload

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=30
)
TAGS = "div|span|dl|dt|dd|ol|li|table|thead|tbody|tr|th|td|details|summary|p|ins|del"


def text_of(markup: Any) -> str:
    return unescape(re.sub(r"<[^>]*>", "", str(markup)))


def test_an_object_is_a_table_of_fields() -> None:
    """Each key has its name for people, and its value."""
    shown = payload({"release_date": "2030-01-01", "force": True})
    assert "<dt" in shown
    assert "Release date" in shown
    assert 'title="release_date"' in shown
    assert "Yes" in shown


def test_a_whole_number_keeps_every_digit() -> None:
    """Beyond 2^53 too, without separators."""
    assert "9007199254740993123456789" in payload({"n": 9007199254740993123456789})


def test_objects_before_and_after_are_compared_by_field() -> None:
    """Changed, added and removed are said in words; what stays is folded."""
    shown = payload({"before": {"a": 1, "b": 2, "same": 0}, "after": {"a": 3, "c": 4, "same": 0}})
    assert [word for word in ("changed", "removed", "added") if word in shown] == ["changed", "removed", "added"]
    assert "1 field stays as it is" in shown


def test_a_true_that_becomes_a_one_is_a_change() -> None:
    """Values are compared as JSON, in which true is not 1."""
    assert "changed" in payload({"before": {"a": True}, "after": {"a": 1}})


def test_texts_before_and_after_are_compared_by_line() -> None:
    """Removed and added lines have signs and words, not only colours."""
    shown = payload({"old": "one\ntwo\n", "new": "one\nthree\n"})
    assert '<del class="text">two</del>' in shown
    assert '<ins class="text">three</ins>' in shown
    assert "removed: " in shown


def test_a_change_of_one_line_is_shown_side_by_side() -> None:
    """Both values under their names."""
    shown = text_of(payload({"field": "price", "before": 5, "after": 6}))
    assert re.search(r"Field\s*price\s*Before\s*5\s*After\s*6", shown)


def test_texts_that_are_too_long_to_compare_are_both_shown() -> None:
    """Nothing is left out for being long."""
    old, new = "a\n" * 2_000 + "old end", "b\n" * 2_000 + "new end"
    shown = payload({"before": old, "after": new})
    assert "old end" in shown
    assert "new end" in shown


def test_a_sender_and_a_receiver_are_no_change() -> None:
    """from and to are a change only when nothing stands beside them."""
    assert change_in({"from": "ann", "to": "bob", "amount": 5}) is None
    assert change_in({"from": 1, "to": 2}) == ("from", "to")


def test_a_unified_diff_is_drawn_line_by_line() -> None:
    """As git writes it."""
    shown = payload({"diff": "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n"})
    assert '<del class="text">old</del>' in shown
    assert '<ins class="text">new</ins>' in shown


def test_a_list_of_like_objects_is_a_table() -> None:
    """Keys are columns."""
    shown = payload([{"name": "a", "n": 1}, {"name": "b", "n": 2}])
    assert shown.count("<tr>") == 3
    assert '<th scope="col">Name</th>' in shown


def test_a_long_list_says_how_many_more_there_are() -> None:
    """And has them all."""
    shown = payload([f"item-{number}" for number in range(ITEMS_SHOWN + 7)])
    assert f"Show 7 more items, {ITEMS_SHOWN + 7} in all" in shown
    assert f"item-{ITEMS_SHOWN + 6}" in shown


def test_what_is_folded_is_counted() -> None:
    """Characters beyond the beginning, rows, items and lines that are one click away; nothing when all is in sight."""
    rows = [{"name": str(number), "n": number} for number in range(ITEMS_SHOWN + 28)]
    told = folded_in(payload({"text": "x" * 1_800, "more": ["y" * 801, "short"], "rows": rows}))
    assert told == "1,001 characters and 28 rows"
    assert folded_in(payload(rows[:ITEMS_SHOWN])) == ""


def test_a_text_cannot_pretend_to_be_folded_markup() -> None:
    """Only elements of ours count."""
    assert folded_in(payload('<details class="long" data-folded="9 rows">')) == ""


def test_braces_in_names_and_values_stay_braces() -> None:
    """No text of a run is used as a format."""
    shown = text_of(payload([{"{0.real}": "{1}"}, {"{0.real}": "{}"}]))
    assert "{0.real}" in shown
    assert "{1}" in shown


def test_nesting_as_deep_as_json_may_be_is_drawn() -> None:
    """64 levels."""
    value: Any = "core"
    for _ in range(64):
        value = [value]
    assert "core" in payload(value)


@given(VALUES)
def test_every_value_is_drawn_with_elements_of_ours_only(value: Any) -> None:
    """No part of a value becomes markup."""
    left = re.sub(rf"</?({TAGS})(?: [a-z-]+=\"[^\"<>]*\")*>", "", str(payload(value)))
    assert "<" not in left


@given(st.dictionaries(st.text("abc", min_size=1), st.text("xyz", min_size=1, max_size=200)))
def test_every_text_is_on_the_page(value: dict[str, str]) -> None:
    """Nothing is dropped."""
    shown = text_of(payload(value))
    assert all(text in shown for text in value.values())
