"""Targets that read what other programs send: frames and snapshots of the ledger, answers and streams of a server."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import apsw
import httpx2
from pydantic_core import from_json

from osprotocol._embedded.database import migrate
from osprotocol._http.address import Address
from osprotocol._http.engine import HttpEngine
from osprotocol._http.problems import error_of
from osprotocol._http.stream import Message, messages
from osprotocol._lifecycle import commands as c
from osprotocol._restate.frames import frame, unframe
from osprotocol._restate.ingress import Ingress
from osprotocol._restate.snapshots import restore
from osprotocol.engine import Filter, RequestFilter
from osprotocol.errors import EngineError, OSProtocolError
from tests.lab.fuzzing.mutation import FIELD
from tests.lab.fuzzing.target import Target, Try, fields_of, joined, plain
from tests.lab.harness import Violation
from tests.lab.memory_disk import folder_in_memory

# ------------------------------------------------------------------------------------------ frames

_FRAMES = (
    frame({"status": "accepted", "head": {"version": 1}}), frame({"token": "t", "chain": "c"}, b"change", b""),
    frame({"base": 1, "chain": "ab"}, b"\n\n", b"x" * 40),
)  # fmt: skip


def read_frame(data: bytes) -> bool:
    """A frame: refused by its one kind of error, or it is written again as it was read."""
    header, parts = unframe(data)
    if unframe(frame(header, *parts)) != (header, parts):
        raise Violation(f"{header!r:.100} with {parts!r:.100} comes back different")
    if sum(map(len, parts)) != len(data.partition(b"\n")[2]):
        raise Violation("bytes were left out")
    return True


# --------------------------------------------------------------------------------------- snapshots


class _Parts:
    """A ledger that gives a snapshot of one part."""

    def __init__(self, part: bytes) -> None:
        self._part = part

    def get_part(self, snapshot: str, number: int) -> bytes:
        return self._part


@contextmanager
def _snapshots() -> Iterator[Try]:
    with folder_in_memory() as folder:
        path = folder / "replica.db"
        connection = apsw.Connection(str(path))
        migrate(connection, path)

        def attempt(data: bytes) -> bool:
            ingress = cast(Ingress, _Parts(zlib.compress(data) if data[:6] == b"SQLite" else data))
            found = restore(ingress, {"name": "s", "count": 1}, connection, path)
            connection.execute("SELECT count(*) FROM runs").fetchall()
            return found

        try:
            yield attempt
        finally:
            connection.close()


def _snapshot() -> bytes:
    connection = apsw.Connection(":memory:")
    connection.execute("PRAGMA page_size = 512; VACUUM")
    migrate(connection, Path(":memory:"))
    return zlib.compress(connection.serialize("main"), 9)


# ----------------------------------------------------------------------------- answers of a server

_RUN: dict[str, Any] = {
    "id": "abc", "workflow": "w", "version": None, "status": "awaiting", "attempt": 1, "event": 5, "labels": {},
    "createdAt": "2026-01-01T00:00:00Z", "startedAt": None, "endedAt": None, "updatedAt": "2026-01-01T00:00:00Z",
    "waitingOn": [], "progress": None, "error": None, "parentId": None, "origin": None, "result": None,
}  # fmt: skip
_REQUEST = {
    "id": "abc-4", "runId": "abc", "workflow": "w", "kind": "approval", "status": "open", "prompt": "Sure?",
    "payload": {"a": 1}, "digest": "d", "revision": 1, "approvers": [], "requiredApprovals": 1, "rejectThreshold": 1,
    "openedAt": "2026-01-01T00:00:00Z", "responses": [],
}  # fmt: skip
_EVENT = {
    "runId": "abc",
    "number": 3,
    "cursor": 7,
    "type": "step.completed",
    "at": "2026-01-01T00:00:00Z",
    "data": {"result": 1},
}
_PROBLEM = {
    "code": "run-not-found",
    "facts": ["abc"],
    "detail": "there is no such run",
    "title": "No run",
    "status": 404,
}
_LINE = {"number": 1, "at": "2026-01-01T00:00:00Z", "level": "info", "message": "m", "attempt": 1, "fields": {}}


def _answer(status: int, body: Any, kind: str = "application/json") -> bytes:
    return joined(str(status), kind, json.dumps(body))


_ANSWERS = (
    _answer(200, {**_RUN, "requests": [_REQUEST]}), _answer(200, {"items": [_RUN], "nextCursor": "5"}),
    _answer(200, {"items": [_REQUEST], "nextCursor": None}), _answer(200, {"items": [_EVENT], "nextCursor": None}),
    _answer(404, _PROBLEM, "application/problem+json"), _answer(200, {"items": [_LINE], "nextCursor": None}),
    _answer(422, {"code": "invalid-value", "facts": ["body", [["$.a", "is bad"]]]}, "application/problem+json"),
    _answer(429, {"code": "too-many-requests", "facts": ["calls", 60]}, "application/problem+json"),
    _answer(200, {"runs": 5}), _answer(200, _REQUEST), joined("204", "", ""), joined("502", "text/html", "<html>"),
    joined("200", "text/html; charset=utf-8", "<html>"), _answer(200, {"name": "ann", "roles": ["viewer"]}),
)  # fmt: skip


@contextmanager
def _client() -> Iterator[Try]:
    """A client whose every question gets the answer that is tried."""
    answer: list[httpx2.Response] = []

    def give(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(answer[0].status_code, headers=answer[0].headers, content=answer[0].content)

    async def ask(engine: HttpEngine, number: int) -> None:
        match number % 10:
            case 0:
                update = await engine.get("abc")
                update.read()
                update.requests()
            case 1:
                await engine.list_runs(Filter(), 50, None)
            case 2:
                await engine.requests(RequestFilter(True), 50, None)
            case 3:
                await engine.read_events("abc", 0, 1)
            case 4:
                await engine.find_request("abc-4")
            case 5:
                await engine.steps("abc")
            case 6:
                await engine.logs("abc", 0, -1)
            case 7:
                await engine.execute("abc", c.Pause("", "because"))
            case 8:
                await engine.statistics()
                await engine.workers()
            case _:
                await engine.begin()

    async def opened() -> HttpEngine:
        engine = HttpEngine(Address("http://127.0.0.1:1", is_local=True, is_plain=True), None)
        await engine.calls._http.aclose()
        engine.calls._http = httpx2.AsyncClient(
            transport=httpx2.MockTransport(give), base_url="http://127.0.0.1:1/api/v1", trust_env=False
        )
        return engine

    with asyncio.Runner() as runner:
        engine = runner.run(opened())

        def attempt(data: bytes) -> bool:
            number, status, kind, body = fields_of(data, 4)
            code = int(status) if status.isdigit() and 200 <= int(status[:3]) < 600 and len(status) == 3 else 200
            if code in (429, 502, 503, 504):
                code = 500  # else it is asked again, after a while
            if b"too-many-requests" in body or b"engine-closed" in body or b"unreachable" in body:
                body = b"{}"
            headers = {"content-type": kind.decode("ascii", "replace").replace("\n", " ").replace("\r", " ")}
            with suppress(UnicodeEncodeError):
                answer[:] = [httpx2.Response(code, headers=headers, content=body)]
                runner.run(ask(engine, (number or b"0")[0]))
            return True

        try:
            yield attempt
        finally:
            runner.run(engine.close())


def read_problem(data: bytes) -> bool:
    """A problem is always an error of ours, with a text."""
    try:
        problem = from_json(data)
    except ValueError:
        return False
    error = error_of(problem, "http://x")
    if not str(error):
        raise Violation(f"{problem!r:.200} became {error!r}")
    return type(error) is not EngineError


# ------------------------------------------------------------------------------------ live streams

_STREAMS = (
    b"retry: 1000\n\n" + b"id: 7\nevent: event\ndata: " + json.dumps(_EVENT).encode() + b"\n\n:\n\n",
    b"event: reset\ndata: {}\n\nid: 8\ndata: 1\r\n\r\n", b"data: a\ndata: b\n\nevent:end\ndata\n\n",
)  # fmt: skip


def read_stream(data: bytes) -> bool:
    """The messages do not depend on how the bytes were cut up; each is in the bytes."""
    whole = asyncio_free(_all(_chunks(data, len(data) or 1)))
    cut = asyncio_free(_all(_chunks(data, 1 + len(data) % 7)))
    if whole != cut:
        raise Violation(f"{whole!r:.200} when whole, {cut!r:.200} when cut")
    if sum(len(one.data) for one in whole) > len(data):
        raise Violation("more was read than was sent")
    return bool(whole)


async def _chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def _all(chunks: AsyncIterator[bytes]) -> list[Message]:
    return [message async for message in messages(chunks)]


def asyncio_free(coroutine: Any) -> Any:
    """The value of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise Violation("it waits")


_ANSWERS_BY_QUESTION = tuple(bytes([number]) + FIELD + one for number in range(10) for one in _ANSWERS)
TARGETS = (
    plain("frame", _FRAMES, read_frame, refusals=(ValueError,)),
    Target("snapshot", (_snapshot(),), _snapshots, batch=200, refusals=(OSProtocolError,), grows=False,
           may=("open ('/dev/shm", "open ('/tmp", "tempfile.", "os.remove", "os.chmod")),
    Target("answer", _ANSWERS_BY_QUESTION, _client, batch=400, small=40),
    plain("problem", tuple(json.dumps({**_PROBLEM, "code": code}).encode() for code in (
        "run-not-found", "invalid-value", "limit-exceeded", "ambiguous-run-id", "invalid-transition", "run-failed",
        "too-many-requests", "vote-conflict", "request-not-found", "engine", "nope")), read_problem),
    plain("stream", _STREAMS, read_stream),
)  # fmt: skip
