"""Bodies are strict JSON: refused with a path, or kept exactly; never a 5xx (B39)."""

from __future__ import annotations

from typing import Any

import pytest

from osprotocol import _limits
from tests.server.api.samples import API, call, started
from tests.server.security.world import world


def body(value: str) -> bytes:
    return b'{"workflow":"api-echo","input":' + value.encode("utf-8", "surrogatepass") + b"}"


REFUSED = {
    "not a number": (body("NaN"), 422, "$"),
    "infinity": (body("-Infinity"), 422, "$"),
    "too large a float": (body("1e400"), 422, "$.input"),
    "a key twice": (b'{"workflow":"api-echo","input":1,"input":2}', 422, "$.input"),
    "a key twice inside": (body('[{"a":{"b":1,"b":1}}]'), 422, "$.input[0].a.b"),
    "a key twice by an escape": (body('{"a":1,"\\u0061":2}'), 422, "$.input.a"),
    "too deep": (body("[" * 70 + "]" * 70), 422, "$.input" + "[0]" * 64),
    "far too deep": (body("[" * 100_000), 422, "$"),
    "deep objects": (body('{"a":' * 70 + "1" + "}" * 70), 422, "$.input" + ".a" * 64),
    "lone surrogate": (body('"\\ud800"'), 422, "$"),
    "lone surrogate as a key": (body('{"\\udc00":1}'), 422, "$"),
    "raw surrogate": (body('"\ud800"'), 422, "$"),
    "5,000 digits": (body("9" * 5_000), 422, "$"),
    "no UTF-8": (b'{"workflow":"\xff"}', 422, "$"),
    "UTF-16": ('{"workflow":"api-echo"}'.encode("utf-16"), 422, "$"),
    "byte order mark": (b"\xef\xbb\xbf{}", 422, "$"),
    "comment": (b'{"workflow":"api-echo" /* x */}', 422, "$"),
    "trailing comma": (b'{"workflow":"api-echo",}', 422, "$"),
    "single quotes": (b"{'workflow':'api-echo'}", 422, "$"),
    "two values": (b"{} {}", 422, "$"),
    "nothing": (b"", 422, "$"),
    "a list": (b"[]", 422, "$"),
    "null": (b"null", 422, "$"),
    "unknown field": (b'{"workflow":"api-echo","nope":1}', 422, "$.nope"),
    "wrong type": (b'{"workflow":7}', 422, "$.workflow"),
    "missing field": (b"{}", 422, "$.workflow"),
    "too large": (body('"' + "x" * (_limits.PAYLOAD_BYTES + 100_000) + '"'), 413, None),
    "an input that is too large": (body('"' + "x" * (_limits.PAYLOAD_BYTES + 1) + '"'), 413, None),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(name: str) -> None:
    """It is refused, with the path of what is wrong, and nothing is stored."""
    data, status, path = REFUSED[name]
    async with world() as made, made.http("operator") as http:
        answer = await http.post(f"{API}/runs", content=data, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        if path is not None:
            assert answer.json()["errors"][0][0] == path
        assert not (await made.client.list()).items


KEPT = {
    "beyond 64 bits": str(2**64 + 1),
    "4,000 digits": "9" * 4_000,
    "negative zero": "0",
    "NUL": '"a\\u0000b"',
    "astral": '"\\ud83d\\ude00"',
    "as deep as is allowed": "[" * 60 + "]" * 60,
    "exponent": "1e5",
    "largest float": "1.7976931348623157e308",
    "smallest float": "5e-324",
    "key order": '{"b":1,"a":2}',
}


@pytest.mark.parametrize("name", KEPT)
async def test_kept(name: str) -> None:
    """It is stored and comes back as the same value."""
    import json

    async with world() as made, made.http("operator") as http:
        answer = await http.post(f"{API}/runs", content=body(KEPT[name]), headers={"Content-Type": "application/json"})
        assert answer.status_code == 201, answer.text
        await made.client.clock.settle()
        found = await http.get(f"{API}/runs/{answer.json()['id']}")
        result, wanted = json.loads(found.text)["result"], json.loads(KEPT[name])
        assert (result, json.dumps(result)) == (wanted, json.dumps(wanted))


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/runs/{run}/pause", {"reason": "x" * (_limits.TEXT_CHARACTERS + 1)}),
        ("/runs/{run}/cancel", {"graceful": "yes"}),
        ("/runs/{run}/pause", {"by": "somebody else"}),
        ("/runs/bulk", {"action": "pause"}),
        ("/runs/bulk", {"action": "pause", "runIds": [], "filter": {}}),
        ("/runs/bulk", {"action": "delete", "runIds": []}),
        ("/runs/bulk", {"action": "pause", "runIds": ["x"] * 201}),
        ("/runs/bulk", {"action": "pause", "filter": {"startedAfter": "yesterday"}}),
        ("/runs/bulk", {"action": "pause", "filter": {"startedAfter": "2026-01-01T00:00:00"}}),
    ],
)
async def test_wrong_bodies(path: str, data: Any) -> None:
    """Every body is checked: unknown fields, wrong types and too much of anything are 4xx."""
    async with world() as made:
        run = await started(made, "api-ask")
        answer = await call(made, "operator", "POST", path.format(run=run), json=data)
        assert answer.status_code in (400, 413, 422), answer.text
