"""New inputs from known ones: bytes are flipped, tokens put in, parts copied, values of JSON exchanged for odd ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

MOST_BYTES = 4_096
"""An input is no longer; the long ones are made apart, see `grown`."""
FIELD = b"\x1e"
"""Between the fields of an input that has several."""
ODD_NUMBERS = (
    "0", "-0", "-1", "1.5", "1e5", "1e400", "-1e400", "5e-324", "9007199254740993", "9223372036854775807",
    "9223372036854775808", "-9223372036854775809", "18446744073709551616", "9" * 400, "9" * 5_000, "NaN", "Infinity",
    "-Infinity", "0x10", "01", "1_000", "٣", "²", "+1", " 1",
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "\x00", "a\x00b", "/", "..", "../../etc/passwd", "%00", "%2e%2e", "\\", "\ufeff", "\u2028", "\u202e", "é",
    "e\u0301", "\u017f", "\u0430dmin", "\uff21dmin", "\U0001f600", "\ud800", "\udfff", "'", '"', "' OR 1=1 --",
    "'); DROP TABLE canary; --", "x') UNION SELECT secret FROM canary --", "$.a", "a.b[0]", "{{7*7}}", "${jndi:x}",
    "__class__", "__reduce__", "!!python/object/apply:os.system", "true", "null", "\r\nX-Injected: 1", "\x1b[31m",
    "1970-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z", "*", "@x",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**53 + 1, 2**63, 2**64, -(2**70), 10**400, 1e308, [], {}, [[]], [None], {"": 0},
    {"a": {"a": {}}}, {"py/object": "os.system"}, {"py/reduce": [{"py/type": "os.system"}, ["id"]]},
    {"__class__": "subprocess.Popen", "args": "id"}, {"$ref": "#"}, *ODD_TEXTS,
)  # fmt: skip
_TOKENS: tuple[bytes, ...] = (
    *(text.encode("utf-8", "surrogatepass") for text in (*ODD_NUMBERS, *ODD_TEXTS, *"{}[]:,=&?;|#@\n\r\t")),
    *(
        b"\r\n",
        b"\n\n",
        b'""',
        b'"\\ud800"',
        b"\\u0000",
        b"\xff",
        b"\xb2",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        FIELD,
    ),
)

Change = Callable[[bytearray, Random, Sequence[bytes]], None]


def mutated(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Another input: one to five changes, in the JSON of a field or in the bytes."""
    if chance.random() < 0.3:
        data = _with_json_changed(data, chance)
        if chance.random() < 0.5:
            return data[:MOST_BYTES]
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        chance.choice(_CHANGES)(changed, chance, others)
    return bytes(changed[:MOST_BYTES])


def grown(data: bytes, chance: Random, size: int) -> bytes:
    """The same input with a part repeated until it has that many bytes."""
    if not data:
        return b"9" * size
    start = chance.randrange(len(data))
    part = data[start : start + chance.choice((1, 1, 2, 3, 8, 40))]
    return data[:start] + part * max((size - len(data)) // len(part), 1) + data[start:]


def _span(data: bytearray, chance: Random, most: int = 16) -> slice:
    start = chance.randrange(len(data) + 1)
    return slice(start, start + chance.randint(1, most))


def _flip(data: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _put(data: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice(_TOKENS)


def _replace(data: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    data[_span(data, chance)] = chance.choice(_TOKENS)


def _cut(data: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    del data[_span(data, chance)]


def _repeat(data: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    span = _span(data, chance, 40)
    data[span.start : span.start] = bytes(data[span]) * chance.choice((1, 1, 2, 70))


def _swap(data: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    one, two = _span(data, chance), _span(data, chance)
    data[one], data[two] = bytes(data[two]), bytes(data[one])


def _splice(data: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    other = chance.choice(others)
    start = chance.randrange(len(other) + 1)
    data[_span(data, chance, 40)] = other[start : start + chance.randint(1, 60)]


def _exchange_field(data: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    mine, other = bytes(data).split(FIELD), chance.choice(others).split(FIELD)
    mine[chance.randrange(len(mine))] = chance.choice((*other, *_TOKENS))
    data[:] = FIELD.join(mine)


_CHANGES: tuple[Change, ...] = (_flip, _set, _put, _put, _replace, _replace, _cut, _repeat, _swap, _splice,
                                _exchange_field, _exchange_field)  # fmt: skip


def _with_json_changed(data: bytes, chance: Random) -> bytes:
    fields = data.split(FIELD)
    number = chance.randrange(len(fields))
    try:
        value = json.loads(fields[number])
        fields[number] = json.dumps(_with_change(value, chance), ensure_ascii=chance.random() < 0.9).encode(
            "utf-8", "surrogatepass"
        )
    except (ValueError, RecursionError):
        pass
    return FIELD.join(fields)


def _with_change(value: Any, chance: Random) -> Any:
    """The value with one part of it exchanged, added or removed."""
    if not value or not isinstance(value, dict | list) or chance.random() < 0.15:
        return _wrapped(chance.choice(ODD_VALUES), chance)
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, changed = chance.choice(keys), value.copy()
    match chance.randrange(6):
        case 0:
            del changed[key]
        case 1 if isinstance(changed, dict):
            changed[str(chance.choice(ODD_TEXTS))] = changed.pop(key)
        case 2 if isinstance(changed, list):
            changed.insert(key, chance.choice(ODD_VALUES))
        case _:
            changed[key] = _with_change(value[key], chance)
    return changed


def _wrapped(value: Any, chance: Random) -> Any:
    if chance.random() < 0.03:
        for _ in range(chance.choice((60, 63, 64, 65, 66, 150, 250))):
            value = [value] if chance.random() < 0.5 else {"a": value}
    return value
