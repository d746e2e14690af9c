"""Text that a run controls: what hides is shown, what is long is folded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osprotocol.server.console.visible import folded, has_hidden, visible, visible_text


@pytest.mark.parametrize(
    "character",
    [
        "\u202e",
        "\u2066",
        "\u200b",
        "\u200d",
        "\ufeff",
        "\u00ad",
        "\x00",
        "\x1b",
        "\r",
        "\u3164",
        "\u2800",
        "\U000e0041",
    ],
)
def test_a_hidden_character_becomes_an_element_that_names_it(character: str) -> None:
    """Invisible, bidirectional and control characters never reach the page as themselves."""
    shown = visible(f"pay{character}ment")
    assert character not in shown
    assert f"U+{ord(character):04X}" in shown
    assert 'role="img" aria-label="hidden character' in shown


@pytest.mark.parametrize("text", ["plain", "naïve café", "日本語 кот αβγ", "👩‍🔧 ❤️ 1️⃣ 🏳️‍🌈", "a\nb\tc", "שלום", "10 kΩ"])
def test_text_of_every_script_stays_as_it_is(text: str) -> None:
    """Letters, emoji with their joiners, line feeds and tabs are not marked."""
    assert visible(text) == text
    assert not has_hidden(text)


def test_a_word_of_two_alphabets_is_marked() -> None:
    """A Cyrillic letter in a Latin word is told, with both alphabets."""
    assert "mixes Cyrillic and Latin letters" in visible("p\u0430ypal")


def test_joiners_outside_an_emoji_are_marked() -> None:
    """A zero width joiner between letters hides something."""
    assert has_hidden("a\u200db")
    assert not has_hidden("👩‍🔧")


@given(st.text())
def test_nothing_in_a_text_is_markup(text: str) -> None:
    """Angle brackets come only from elements of our own."""
    shown = str(visible(text))
    for ours in ("<span", "</span>"):
        shown = shown.replace(ours, "")
    assert "<" not in shown


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_is_marked_is_exactly_what_has_hidden_characters(text: str) -> None:
    """Both functions judge alike."""
    assert has_hidden(text) == ('class="mark"' in visible(text))


def test_where_no_element_fits_a_hidden_character_is_named_in_the_text() -> None:
    """For titles and options."""
    assert visible_text("a\u202eb 👩‍🔧") == "a[U+202E]b 👩‍🔧"


def test_a_long_text_is_folded_with_a_marker_and_whole_inside() -> None:
    """The beginning, how much there is, and all of it."""
    text = "0123456789" * 500
    shown = folded(text)
    assert "cut here. Show all (5,000 characters)" in shown
    assert text in shown


def test_many_lines_are_folded_too() -> None:
    """Lines count as much as characters."""
    assert "30 lines" in folded("a\n" * 29)


def test_a_short_text_is_not_folded() -> None:
    """Nothing to unfold."""
    assert "<details" not in folded("short")
