"""How the ledger's requests, replies and entries are written: one line of JSON, then bytes of known lengths."""

from __future__ import annotations

import json
from typing import Any

Header = dict[str, Any]


def frame(header: Header, *parts: bytes) -> bytes:
    """A header and byte strings as one byte string."""
    line = json.dumps({**header, "parts": [len(part) for part in parts]}, separators=(",", ":"))
    return b"".join((line.encode(), b"\n", *parts))


def unframe(data: bytes) -> tuple[Header, list[bytes]]:
    """What `frame` put together.

    Raises:
        ValueError: it is something else.
    """
    line, _, rest = data.partition(b"\n")
    try:
        header: Header = json.loads(line)
        lengths = header.pop("parts")
    except (RecursionError, TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"no frame: {error}") from None
    parts, start = [], 0
    for length in lengths if isinstance(lengths, list) else (None,):
        if type(length) is not int or length < 0:
            raise ValueError("no frame: its parts have no lengths")
        parts.append(rest[start : start + length])
        start += length
    if start != len(rest):
        raise ValueError(f"{len(rest)} bytes where {start} are told")
    return header, parts
