"""What `osp` prints: the wire form, plain text for pipes, tables for people. Nothing else writes to the terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TextIO

from osprotocol._clock import SystemClock, from_datetime, to_datetime, to_iso
from osprotocol.protocol._wire import Wire

# What makes a terminal do something, or makes text look like other text: C0 and C1 controls, invisible and
# bidirectional formatting (Unicode's "Trojan Source" characters), line separators, tags, lone surrogates.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_SHORT = 60


def clean(text: object, *, lines: bool = False) -> str:
    r"""Text of a run that cannot harm a terminal: control and bidi characters become ``\x1b``-like escapes.

    Args:
        text: anything that has a text.
        lines: True keeps line feeds and tabs, for text that stands alone.
    """
    return _HARMFUL.sub(lambda found: _escape(found.group(), lines), str(text))


def _escape(character: str, lines: bool) -> str:
    if lines and character in "\n\t":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def to_json(value: Any) -> str:
    """One line of JSON. What `clean` escapes is escaped here too, in JSON's own way, so it stays the same JSON."""
    text = json.dumps(value.to_wire() if isinstance(value, Wire) else value, ensure_ascii=False, allow_nan=False)
    return _HARMFUL.sub(lambda found: json.dumps(found.group())[1:-1], text)


def pretty(value: Any) -> str:
    """A result or payload for people: text as it is, anything else as indented JSON."""
    if isinstance(value, str):
        return clean(value, lines=True)
    return clean(json.dumps(value, ensure_ascii=False, indent=2), lines=True)


def short(text: object, characters: int = _SHORT) -> str:
    """The first line of a text, cleaned and cut."""
    line = clean(str(text).strip().split("\n", 1)[0])
    return line if len(line) <= characters else line[: characters - 1] + "…"


def say(text: str) -> None:
    """A line for people, on standard error: standard output belongs to data."""
    if sys.stderr is not None:  # closed: print(file=None) would write it among the data
        print(text, file=sys.stderr, flush=True)


def write(text: str) -> None:
    """A line of data, on standard output, at once."""
    print(text, flush=True)


def write_json(values: Iterable[Any]) -> None:
    """One line of JSON for each value."""
    for value in values:
        write(to_json(value))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is open (Python has None for a closed one) and a terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return is_terminal(sys.stdout)


def write_table(titles: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> None:
    """Rows as a table in a terminal; in a pipe one line each, columns parted by tabs, without titles."""
    cells = [[clean("" if cell is None else cell) for cell in row] for row in rows]
    if not on_terminal():
        for row in cells:
            write("\t".join(row))
        return
    if not cells:
        say(nothing)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(titles):
        table.add_column(title, no_wrap=number == 0, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def ago(moment: datetime | None) -> str:
    """How long ago, for a terminal; the instant itself in a pipe."""
    if moment is None:
        return ""
    if not on_terminal():
        return instant(moment)
    return f"{duration(to_datetime(SystemClock().now()) - moment)} ago"


def instant(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return to_iso(from_datetime(moment))


def until(moment: datetime | None) -> str:
    """How long from now, for a terminal; the instant itself in a pipe."""
    if moment is None:
        return ""
    if not on_terminal():
        return instant(moment)
    return f"in {duration(moment - to_datetime(SystemClock().now()))}"


def duration(length: timedelta) -> str:
    """A length of time in its two largest units, such as ``3h 20m``."""
    seconds = max(0, int(length.total_seconds()))
    parts: list[str] = []
    for name, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= size or (name == "s" and not parts):
            parts.append(f"{seconds // size}{name}")
            seconds %= size
    return " ".join(parts[:2])
