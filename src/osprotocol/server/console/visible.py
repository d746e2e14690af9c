"""Text that a run controls, made safe to look at: what is invisible or turns text around becomes a visible mark.

A person approves what the page shows. Characters that hide or reorder text (Unicode's "Trojan Source" characters, zero
width, fillers, tags) and words that mix look-alike alphabets are therefore shown as what they are.
"""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

FOLD_CHARACTERS = 800
"""Text longer than this, or of more lines, is folded; all of it is one click away."""
FOLD_LINES = 14

_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff"
)
# Between the parts of one emoji these belong there; everywhere else they hide something.
_EMOJI = (
    "(?<=[\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff])\ufe0f"
    "|(?<=[0-9#*])\ufe0f(?=\u20e3)"
    "|(?<=[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u2190-\u2bff\U0001f000-\U0001faff])"
)
# Letters of other alphabets that pass for Latin ones; a word is worth a look when it has both.
_LOOKALIKES = "\u0391\u0392\u0395-\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7"
_LOOKALIKES += "\u03b1\u03b9\u03ba\u03bd\u03bf\u03c1\u03c5\u03c7\u0400-\u052f\u0531-\u058f\u13a0-\u13ff"
_INTERESTING = re.compile(
    f"(?P<emoji>{_EMOJI})|(?P<hidden>[{_HIDDEN}])|(?P<mixed>\\b(?=\\w*[A-Za-z])(?=\\w*[{_LOOKALIKES}])\\w+)"
)
_SHORT_NAMES = {"\x00": "NUL", "\x1b": "ESC", "\r": "CR", "\x7f": "DEL", "\x08": "BACKSPACE", "\x07": "BELL"}


def visible(text: object) -> Markup:
    """Markup of a text in which every hidden character is an element that names it.

    Line feeds and tabs stay: where they count, the style keeps them (``white-space: pre-wrap``).
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return escape(plain)
    parts: list[Markup] = []
    end = 0
    for found in _INTERESTING.finditer(plain):
        if found.lastgroup == "emoji":
            continue
        parts.append(escape(plain[end : found.start()]))
        parts.append(_mark(found.group()) if found.lastgroup == "hidden" else _mixed(found.group()))
        end = found.end()
    parts.append(escape(plain[end:]))
    return Markup("").join(parts)


def _mark(character: str) -> Markup:
    code = f"U+{ord(character):04X}"
    name = unicodedata.name(character, _SHORT_NAMES.get(character, "hidden character")).lower()
    words = f"{code} {name}"
    return Markup('<span class="mark" role="img" aria-label="hidden character {}" title="{}">{}</span>').format(
        words, words, _SHORT_NAMES.get(character, code)
    )


def _mixed(word: str) -> Markup:
    alphabets = sorted({unicodedata.name(letter, "?").split(" ")[0].title() for letter in word if letter.isalpha()})
    told = f"mixes {' and '.join(alphabets)} letters"
    return Markup(
        '<span class="mixed" title="{}">{}<span class="mark" role="img" aria-label="{}">{}</span></span>'
    ).format(told, word, f"this word {told}", "look-alike")


def visible_text(text: object) -> str:
    """The same without elements, for places that take text only: ``[U+202E]``."""
    return _INTERESTING.sub(
        lambda found: f"[U+{ord(found[0]):04X}]" if found.lastgroup == "hidden" else found[0], str(text)
    )


def has_hidden(text: str) -> bool:
    """Whether `visible` would mark anything in the text."""
    return any(found.lastgroup != "emoji" for found in _INTERESTING.finditer(text))


def folded(text: object, *, characters: int = FOLD_CHARACTERS, lines: int = FOLD_LINES) -> Markup:
    """Markup of a text of any length: what is long shows its beginning, says how much there is, and unfolds.

    The beginning and the whole are never both on the page for a reader: the whole replaces the beginning when unfolded.
    """
    plain = str(text)
    count = plain.count("\n") + 1
    if len(plain) <= characters and count <= lines:
        return Markup('<span class="text">{}</span>').format(visible(plain))
    beginning = "\n".join(plain[:characters].split("\n")[:lines])
    size = f"{len(plain):,} characters" + (f", {count:,} lines" if count > 1 else "")
    return Markup(
        '<details class="long" data-folded="{} characters"><summary><span class="text beginning">{}</span>'
        '<span class="more">… cut here. Show all ({})</span><span class="less">Show less</span></summary>'
        '<span class="text whole">{}</span></details>'
    ).format(len(plain) - len(beginning), visible(beginning), size, visible(plain))
