"""What a decision is about, drawn in one way: fields as a table, lists as lists, changes as before and after.

Every text goes through `visible`; nothing is interpreted as markup, nothing is loaded. What is long is folded and
says so; nothing is left out.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup, escape

from osprotocol import _limits
from osprotocol._json import encode
from osprotocol.server.console import words
from osprotocol.server.console.shapes import humanized
from osprotocol.server.console.visible import folded, visible, visible_text

_PAIRS = (("before", "after"), ("old", "new"), ("from", "to"), ("current", "proposed"))
_WORDS = {"+": "added", "-": "removed", "~": "changed", " ": ""}
ITEMS_SHOWN = 12
"""Of a long list or table; the others are one click away."""
_COLUMNS = 6
_CONTEXT_LINES = 3
_NONE = Markup('<span class="dim">–</span>')
_REST = Markup('<details class="long rest" data-folded="{} {}"><summary>… cut here. Show {}</summary>{}</details>')
_SAME_FOLDED = Markup('<details class="fold" data-folded="{} {}"><summary>{}</summary>{}</details>')
_FOLDED = re.compile(r'<details [^>]*data-folded="([0-9]+) ([a-z]+)"')
_PLAIN_LINE = Markup('<div class="diff-line{}"><span class="diff-sign"> </span><span class="text">{}</span></div>')
_CHANGED_FIELD = Markup(
    '<tr><th scope="row">{}<span class="change-word">{}</span></th><td class="was" data-label="{}">{}</td>'
    '<td class="will" data-label="{}">{}</td></tr>'
)
_CHANGED_FIELDS = Markup(
    '<div class="table-wrap" tabindex="0" role="group" aria-label="Changes"><table class="changes"><thead><tr>'
    '<th scope="col">Field</th><th scope="col">{}</th><th scope="col">{}</th></tr></thead><tbody>{}</tbody>'
    "</table></div>"
)
_SAME = Markup('<p class="dim">Nothing changes: both are the same.</p>')
_SIDES = Markup(
    '<div class="change"><div class="was"><p class="side">{}</p>{}</div>'
    '<div class="will"><p class="side">{}</p>{}</div></div>'
)
_COMPARED_LINES = 1_000


def payload(value: Any) -> Markup:
    """Markup of a JSON value."""
    return Markup('<div class="payload">{}</div>').format(_value(value, 0))


def folded_in(*parts: Markup) -> str:
    """How much of some markup is folded, in words: ``1,240 characters and 28 rows``; empty when all of it is open."""
    amounts: Counter[str] = Counter()
    for part in parts:
        for number, unit in _FOLDED.findall(part):
            amounts[unit] += int(number)
    return words.listed([words.count(number, unit.removesuffix("s")) for unit, number in amounts.items()], most=5)


def scalar_text(value: Any) -> str:
    """A value without parts as people read it; numbers keep every digit."""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    return value if isinstance(value, str) else encode(value)


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _value(value: Any, depth: int) -> Markup:
    if depth > _limits.JSON_DEPTH:
        return folded(encode(value))
    match value:
        case None:
            return Markup('<span class="dim">none</span>')
        case str() if not value:
            return Markup('<span class="dim">empty text</span>')
        case str():
            return _unified(value) if _is_unified(value) else folded(value)
        case bool():
            return escape(scalar_text(value))
        case int() | float():
            return Markup('<span class="number">{}</span>').format(scalar_text(value))
        case dict():
            return _object(value, depth)
        case list():
            return _list(value, depth)
        case _:
            return folded(str(value))


def _object(value: Mapping[str, Any], depth: int) -> Markup:
    if not value:
        return Markup('<span class="dim">nothing in it</span>')
    pair = change_in(value)
    if pair is None:
        return _fields(value.items(), depth)
    before, after = pair
    rest = [(key, child) for key, child in value.items() if key not in (before, after)]
    told = _fields(rest, depth) if rest else Markup("")
    return told + _change(before, after, value[before], value[after], depth)


def change_in(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """The two keys under which an object holds what was and what will be; None when it is no change."""
    for pair in _PAIRS:
        if all(key in value for key in pair):
            others = [child for key, child in value.items() if key not in pair]
            # "from" and "to" are also a sender and a receiver, a start and an end: only alone are they a change.
            plain = pair != ("from", "to") or not others
            return pair if plain and len(others) <= 3 and all(map(_is_scalar, others)) else None
    return None


def _fields(items: Iterable[tuple[str, Any]], depth: int) -> Markup:
    rows = Markup("").join(
        Markup('<div class="pair"><dt title="{}">{}</dt><dd>{}</dd></div>').format(
            visible_text(key), visible(humanized(key)), _value(child, depth + 1)
        )
        for key, child in items
    )
    return Markup('<dl class="fields">{}</dl>').format(rows)


def _list(value: list[Any], depth: int) -> Markup:
    if not value:
        return Markup('<span class="dim">empty list</span>')
    columns = _columns(value)
    if columns is not None:
        head = Markup("").join(Markup('<th scope="col">{}</th>').format(visible(humanized(key))) for key in columns)
        opening = Markup(
            '<div class="table-wrap" tabindex="0" role="group" aria-label="Table">'
            "<table><thead><tr>{}</tr></thead><tbody>"
        ).format(head)
        rows = [
            Markup("<tr>{}</tr>").format(
                Markup("").join(Markup("<td>{}</td>").format(_value(row[key], depth + 1)) for key in columns)
            )
            for row in value
        ]
        return _rest(opening, rows, Markup("</tbody></table></div>"), "rows")
    is_short = all(_is_scalar(item) for item in value)
    items = [Markup("<li>{}</li>").format(_value(item, depth + 1)) for item in value]
    return _rest(Markup('<ol class="items{}">').format(" short" if is_short else ""), items, Markup("</ol>"), "items")


def _columns(value: list[Any]) -> list[str] | None:
    """The keys of a list whose items are alike and flat; None for any other list."""
    first = value[0]
    if len(value) < 2 or not isinstance(first, dict) or not 0 < len(first) <= _COLUMNS:
        return None
    keys = list(first)
    alike = all(
        isinstance(item, dict) and item.keys() == first.keys() and all(map(_is_scalar, item.values())) for item in value
    )
    return keys if alike else None


def _rest(opening: Markup, items: list[Markup], closing: Markup, what: str) -> Markup:
    """Items in their frame; beyond `ITEMS_SHOWN` in a second one that is folded and says how many."""
    shown = Markup("").join((opening, *items[:ITEMS_SHOWN], closing))
    if len(items) <= ITEMS_SHOWN:
        return shown
    left = len(items) - ITEMS_SHOWN
    more = Markup("").join((opening, *items[ITEMS_SHOWN:], closing))
    return shown + _REST.format(left, what, f"{left:,} more {what}, {len(items):,} in all", more)


# ------------------------------------------------------------------------------------------ before and after


def _change(before_name: str, after_name: str, before: Any, after: Any, depth: int) -> Markup:
    if isinstance(before, dict) and isinstance(after, dict) and (before or after):
        return _object_change(before_name, after_name, before, after, depth)
    if isinstance(before, str) and isinstance(after, str) and ("\n" in before or "\n" in after):
        compared = _text_change(before, after)
        if compared is not None:
            return compared
    same = _SAME if encode(before) == encode(after) else Markup("")
    names = humanized(before_name), humanized(after_name)
    return same + _SIDES.format(names[0], _value(before, depth + 1), names[1], _value(after, depth + 1))


def _object_change(
    before_name: str, after_name: str, before: dict[str, Any], after: dict[str, Any], depth: int
) -> Markup:
    rows: list[Markup] = []
    same: list[tuple[str, Any]] = []
    for key in dict.fromkeys((*before, *after)):
        if key in before and key in after and encode(before[key]) == encode(after[key]):
            same.append((key, before[key]))
            continue
        sign = "~" if key in before and key in after else ("-" if key in before else "+")
        cells = [_value(side[key], depth + 1) if key in side else _NONE for side in (before, after)]
        names = humanized(before_name), humanized(after_name)
        rows.append(
            _CHANGED_FIELD.format(visible(humanized(key)), _WORDS[sign], names[0], cells[0], names[1], cells[1])
        )
    table = _CHANGED_FIELDS.format(humanized(before_name), humanized(after_name), Markup("").join(rows))
    if not rows:
        table = _SAME
    if not same:
        return table
    told = "1 field stays as it is" if len(same) == 1 else f"{len(same):,} fields stay as they are"
    return table + _SAME_FOLDED.format(len(same), "fields", told, _fields(same, depth))


def _text_change(before: str, after: str) -> Markup | None:
    """Two texts line by line; None when they are too long to be compared here."""
    old, new = before.split("\n"), after.split("\n")
    if len(old) > _COMPARED_LINES or len(new) > _COMPARED_LINES:
        return None
    lines: list[Markup] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if tag == "equal":
            lines += _unchanged(old[i1:i2], i1 == 0, i2 == len(old))
            continue
        lines += [_line("-", line) for line in old[i1:i2]]
        lines += [_line("+", line) for line in new[j1:j2]]
    return Markup('<div class="diff" role="group" aria-label="Before and after, line by line">{}</div>').format(
        Markup("").join(lines)
    )


def _unchanged(lines: list[str], first: bool, last: bool) -> list[Markup]:
    head, tail = 0 if first else _CONTEXT_LINES, 0 if last else _CONTEXT_LINES
    shown = [_line(" ", line) for line in lines]
    if len(lines) <= head + tail + 2:
        return shown
    end = len(lines) - tail
    told = f"{end - head:,} lines stay as they are"
    hidden = _SAME_FOLDED.format(end - head, "lines", told, Markup("").join(shown[head:end]))
    return [*shown[:head], hidden, *shown[end:]]


def _line(sign: str, text: str) -> Markup:
    if sign == " ":
        return _PLAIN_LINE.format("", visible(text))
    tag, kind = ("ins", "will") if sign == "+" else ("del", "was")
    return Markup(
        '<div class="diff-line ' + kind + '"><span class="diff-sign" aria-hidden="true">{}</span>'
        '<span class="sr">{}: </span><' + tag + ' class="text">{}</' + tag + "></div>"
    ).format("+" if sign == "+" else "−", _WORDS[sign], visible(text))


def _is_unified(text: str) -> bool:
    """Whether a text is a unified diff, as git and others write it."""
    return "\n@@ -" in f"\n{text}" and ("\n+" in text or "\n-" in text)


def _unified(text: str) -> Markup:
    lines = text.split("\n")
    drawn = [
        _line(line[0], line[1:])
        if line[:1] in ("+", "-", " ") and line[:4] not in ("+++ ", "--- ")
        else _PLAIN_LINE.format(" dim", visible(line))
        for line in lines
    ]
    opening = Markup('<div class="diff" role="group" aria-label="Changes, line by line">')
    return _rest(opening, drawn, Markup("</div>"), "lines")
