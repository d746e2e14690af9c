"""Targets that read JSON: text from outside, bodies of the API, stored values of declared types, journal records."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError

from osprotocol._embedded.listing import step_records, wire_event
from osprotocol._embedded.replay import entries_until, read_journal
from osprotocol._embedded.transaction import checksum
from osprotocol._json import Codec, encode, parse, problems_of
from osprotocol._lifecycle.schema import problems_in
from osprotocol._lifecycle.state import Event
from osprotocol.errors import CorruptDatabaseError, InvalidValueError, OSProtocolError
from osprotocol.protocol import http
from osprotocol.protocol.run import RunOptions
from tests.lab.fuzzing.mutation import FIELD
from tests.lab.fuzzing.target import Try, fields_of, joined, plain
from tests.lab.harness import Violation

ANY = Codec[Any](Any, "value")


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    y: float = 0.0


class Order(BaseModel):
    id: int
    price: Decimal = Decimal(1)
    tags: set[str] = set()
    at: datetime | None = None
    inner: dict[str, list[Point]] = {}


TYPES: tuple[Any, ...] = (
    Any, int, float, str, bool, bytes, Decimal, datetime, timedelta, UUID, Colour, Point, Order, tuple[int, str],
    set[int], dict[int, str], list[Order], int | str, Point | None, dict[str, Any], RunOptions,
)  # fmt: skip
CODECS = tuple(Codec[Any](annotation, "value") for annotation in TYPES)

_TEXTS = (
    b'{"a":[1,2.5,true,null,"x"],"b":{"c":"\\u00e9\\ud83d\\ude00"}}', b"[[[[1]]]]", b'"text"', b"-1.5e10", b"{}",
    b"123456789012345678901234567890", b' [ 1 , "\\n\\t\\\\\\"" ] ', b'{"a":1,"a":2}', b'[{"x":0.1},{"x":1e308}]',
    b"[" * 64 + b"]" * 64, b'{"a":' * 64 + b"1" + b"}" * 64, b'{"\\u0061":1,"b":{"a":2}}', '{"é":"\u2028"}'.encode(),
)  # fmt: skip


# ------------------------------------------------------------------------------ text from outside


def _strictly(data: bytes) -> Any:
    """The value of JSON text by the other parser, with the rules that ours has.

    Raises:
        ValueError: it breaks one of them.
    """

    def whole(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    def finite(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError(text)
        return float(text)

    if data.startswith(b"\xef\xbb\xbf"):
        raise ValueError("a byte order mark")
    text = data.decode("utf-8")
    value = json.loads(text, object_pairs_hook=whole, parse_float=finite, parse_constant=finite)
    json.dumps(value, ensure_ascii=False).encode()  # no lone surrogates
    return value


def _same(one: Any, two: Any) -> bool:
    return one == two and repr(one) == repr(two)


def parse_text(data: bytes) -> bool:
    """Accepted: the other parser reads the same, and it is stored and read back. Refused: the other refuses it too."""
    try:
        value = parse(data, "value")
    except InvalidValueError as error:
        if not all(path.startswith("$") for path, _ in error.problems):
            raise Violation(f"refused without a path: {error.problems}") from None
        try:
            fine = _strictly(data)
        except (ValueError, RecursionError):
            return False
        if not any("JSON_DEPTH" in told or "recursion limit" in told for _, told in error.problems):
            raise Violation(f"refused although it is {fine!r:.200}: {error}") from None
        return False
    if not _same(value, _strictly(data)):
        raise Violation(f"read as {value!r:.200}, which is not what is written")
    if not _same(parse(encode(value), "value"), value):
        raise Violation(f"{value!r:.200} does not come back")
    try:
        stored, back = ANY.dump(value)
    except OSProtocolError as error:
        raise Violation(f"accepted, but cannot be stored: {error}") from None
    if not _same(back, value) or not _same(ANY.load(stored), value):
        raise Violation(f"{value!r:.200} is stored as something else")
    return True


# ----------------------------------------------------------------------------- bodies of the API

BODIES: tuple[type[BaseModel], ...] = (
    http.StartBody, http.ReasonBody, http.CancelBody, http.ForkBody, http.VoteBody, http.RespondBody, http.GateBody,
    http.BulkBody, http.BulkVoteBody, http.FilterBody,
)  # fmt: skip
_BODIES = (
    '{"workflow":"api-echo","input":{"a":1},"options":{"labels":{"a":"b"},"idempotencyKey":"k","timeout":'
    '{"durationMs":5000,"onTimeout":"cancel"},"retry":{"attempts":3,"delayMs":10,"backoff":"exponential","jitter":0.5},'
    '"cancel":{"graceful":true,"gracefulTimeoutMs":100}}}',
    '{"reason":"because"}', '{"reason":null,"graceful":false}', '{"afterStep":"2"}', '{"reason":"x","seen":"1:ab"}',
    '{"value":[1,2],"seen":"1:ab"}',
    '{"kind":"approval","prompt":"Sure?","payload":{"a":1},"config":{"approvers":["ann","bob"],"requiredApprovals":2,'
    '"timeoutMs":1000,"rejectThreshold":1,"autoApproveOnTimeout":false},"onReject":"continue"}',
    '{"kind":"input","prompt":"How many?","schema":{"type":"integer","minimum":1},"timeoutMs":10}',
    '{"action":"pause","filter":{"status":["failed"],"workflow":"w","labels":{"a":"b"},"text":"x",'
    '"startedAfter":"2026-01-01T00:00:00Z","startedBefore":"2026-01-01T00:00:00+01:00","parent":"p"}}',
    '{"action":"cancel","runIds":["a","b"],"graceful":true,"reason":"r"}',
    '{"action":"approve","requests":[{"id":"a-1","seen":"1:x"},{"id":"b-1"}]}',
)  # fmt: skip


def read_body(data: bytes) -> bool:
    """As the server does it: parsed, then fitted into the shape; what fits comes back equal from its own JSON."""
    number, raw = fields_of(data, 2)
    model = BODIES[(number or b"0")[0] % len(BODIES)]
    parse(raw, "body")
    try:
        body = model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        problems_of(error)
        return False
    again = body.model_dump_json(by_alias=True, exclude_unset=True)
    if model.model_validate_json(again, strict=True) != body:
        raise Violation(f"{body!r:.200} comes back different from {again:.200}")
    return True


# --------------------------------------------------------------------------------- declared types

_STORED = (
    "1", "1.5", '"x"', "true", '"AAA"', '"1.10"', '"2026-01-01T00:00:00Z"', '"P1DT1S"',
    '"12345678-1234-5678-1234-567812345678"', '"red"', '{"x":1,"y":2}',
    '{"id":1,"price":"2.5","tags":["a"],"at":"2026-01-01T00:00:00Z","inner":{"k":[{"x":1.5}]}}', '[1,"a"]', "[1,2,3]",
    '{"1":"a"}', '[{"id":1}]', "null", '{"retry":{"attempts":1}}',
)  # fmt: skip


def load_stored(data: bytes) -> bool:
    """A stored value of a type: refused as such, or it can be stored again and comes back equal."""
    number, raw = fields_of(data, 2)
    codec = CODECS[(number or b"0")[0] % len(CODECS)]
    value = codec.load(raw)
    stored, back = codec.dump(value)
    again = codec.load(stored)
    if again != back or repr(again) != repr(back):
        raise Violation(f"{codec.annotation}: {back!r:.200} comes back as {again!r:.200}")
    return True


_SCHEMAS = (
    {"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 3},
    {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^(a+)+$"},
    {"type": "array", "items": {"$ref": "#/$defs/A"}, "prefixItems": [{"type": "null"}], "$defs": {"A": {"const": 1}}},
    {"anyOf": [{"type": "object", "required": ["a"], "additionalProperties": False}, {"enum": [1, "x"]}]},
)


def check_answer(data: bytes) -> bool:
    """An answer against a schema; both come from outside."""
    raw, schema = fields_of(data, 2)
    return not problems_in(parse(raw, "answer"), parse(schema, "schema"))


# -------------------------------------------------------------------------------------- journals

_RECORDS = (
    ("run.started", "in-progress", None, None, None, '"x"'),
    ("step.started", None, "1", "load", "ab", None),
    ("step.retrying", None, "1", "load", "ab", '{"type":"E","message":"m","attempts":1}'),
    ("step.completed", None, "1", "load", "ab", '{"a":1}'),
    ("step.failed", None, "2", "load", "ab", '{"type":"E","message":"m","attempts":1}'),
    ("request.opened", None, "3", None, "cd", '{"id":"x-1"}'),
    ("request.completed", None, "3", None, "cd", "{}"),
    ("child.started", None, "4", "kid", "ef", '{"runId":"y"}'),
    ("child.completed", None, "4", "kid", "ef", '{"status":"completed","result":1}'),
    ("run.retrying", None, None, None, None, '{"forgotten":["1","3"]}'),
    ("cancel.delivered", None, None, None, None, None),
    ("sleep.started", None, "5", None, None, '{"until":1}'),
    ("sleep.completed", None, "5", None, None, None),
    ("value.recorded", None, "6", "now", None, "1"),
    ("run.completed", "completed", None, None, None, '"done"'),
)


def read_records(data: bytes) -> bool:
    """Records as a worker reads them: a replay, or the journal is damaged. Each has one checksum.

    What people read of it (events, steps) is refused alike.
    """
    events: list[Event] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        words = [None if word == b"-" else word.decode("utf-8", "replace") for word in line.split(FIELD)]
        kind, status, position, name, digest, value = (words + [None] * 6)[:6]
        known: Any = status
        events.append(Event(number, 1, kind or "", known, position, name, digest, None, value))
        if events[-1].value is not None and checksum(7, events[-1]) == checksum(7, events[-1]._replace(value="other")):
            raise Violation(f"the checksum does not cover {value!r:.100}")
    replay = read_journal(events)
    if len(replay.order) > len(events) or any(one.kind == "" for one in replay.recorded.values()):
        raise Violation(f"more was read than is there: {replay!r:.200}")
    entries_until(events, len(events) // 2)
    return True


def show_records(data: bytes) -> bool:
    """The same records as people see them."""
    event_by_line: list[Event] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        words = [None if word == b"-" else word.decode("utf-8", "replace") for word in line.split(FIELD)]
        kind, _, position, name, digest, value = (words + [None] * 6)[:6]
        event_by_line.append(Event(number, 1, kind or "", None, position, name, digest, None, value))
    step_records(event_by_line)
    for event in event_by_line:
        wire_event("run", event.number, event).model_dump_json(by_alias=True)
    return True


def _lines(*records: tuple[str | None, ...]) -> bytes:
    return b"\n".join(joined(*("-" if word is None else word for word in record)) for record in records)


_JOURNALS = (_lines(*_RECORDS), _lines(*_RECORDS[:4]), _lines(*_RECORDS[:1], *_RECORDS[9:10]), _lines(*_RECORDS[5:9]))


def _mostly_accepted(attempt: Try, candidates: list[bytes]) -> tuple[bytes, ...]:
    """Those that are accepted, and some of the others."""
    good = []
    for data in candidates:
        with suppress(OSProtocolError):
            if attempt(data):
                good.append(data)
    return tuple(good + candidates[::12])


TARGETS = (
    plain("json", _TEXTS, parse_text),
    plain(
        "body",
        _mostly_accepted(read_body, [joined(bytes([n]), text) for text in _BODIES for n in range(len(BODIES))]),
        read_body,
    ),
    plain(
        "stored",
        _mostly_accepted(load_stored, [joined(bytes([n]), text) for n in range(len(TYPES)) for text in _STORED]),
        load_stored,
    ),
    plain("schema", tuple(joined(text, json.dumps(one)) for one in _SCHEMAS for text in _STORED), check_answer),
    plain("journal", _JOURNALS, read_records, refusals=(CorruptDatabaseError,)),
    plain("records", _JOURNALS, show_records, refusals=(CorruptDatabaseError,)),
)
