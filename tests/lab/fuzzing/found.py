"""Inputs that found something. Kept as they are, for the number of a case means other inputs when seeds change."""

from __future__ import annotations

import json

from tests.lab.fuzzing.target import joined


def _twice(number: int) -> object:
    return {"allOf": [{"$ref": f"#/$defs/A{number}"}] * 2}


FOUND: dict[str, tuple[bytes, ...]] = {
    "stored": (joined(b"\0", '{"id":'), joined(b"\0", "x")),  # a ValueError of the parser
    "schema": (
        joined('"x"', '{"type":"string","minLength":"a"}'),
        joined("5", '{"anyOf":7}'),
        joined("5", '{"multipleOf":0}'),
        joined("9" * 400, '{"multipleOf":0.5}'),
        joined("{}", '{"properties":[],"required":5}'),
        joined(
            '"x"',
            json.dumps({"$defs": {f"A{n}": _twice(n + 1) for n in range(40)}, "$ref": "#/$defs/A0"}),
        ),
    ),  # errors of Python's own, and a check that does not end
    "journal": (
        joined("run.retrying", "-", "-", "-", "-", '{"forgotten":5}'),
        joined("run.retrying", "-", "-", "-", "-", "x"),
    ),
    "records": (joined("step.failed", "-", "1", "n", "d", "[]"), joined("run.completed", "-", "-", "-", "-", "{")),
    "address": (
        joined("https://runs.\u017fample.org/"),
        joined("http://9223372036854775808127.0.0.1:1"),
        joined("localhost:" + "9" * 4_000),
    ),  # httpx2's InvalidURL; an OSError for a name that is too long
    "words": (joined("9" * 5_000), joined("x" * 5_000 + ".json"), joined(b"1\xfe0m")),
    "settings": (joined("127.0.0.1", "", "", "127.0.0.1:8321", "https://::1]:1"),),  # an Origin that is no address: 500
    "frame": (b"5", b'{"a":1}\n', b'{"parts":[1,-1,2]}\nab', b'{"parts":5}\n', b"[" * 4_000),
    "snapshot": (b"no snapshot", b""),
    "answer": (
        joined(b"\0", "200", "application/json", "[]"),
        joined(b"\1", "200", "application/json", '{"items":[5]}'),
    ),
    "request": (
        joined("0", "/runs", b"text=\xff"),
        joined("0", "/runs/DONE/events", "", b"accept: text/event-stream\nlast-event-id: \xb2"),
    ),
    "row": (joined(b"\x07\0", '{"number":1}'), joined(b"\x06\0", "[]"), joined(b"\1\2", "run.retrying")),
}
