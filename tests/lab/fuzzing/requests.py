"""The HTTP API as a target: method, path, query, headers and body of a request, in front of the whole application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from tests.lab.fuzzing.target import Target, Try, fields_of, joined
from tests.lab.harness import Violation
from tests.server.api.samples import started
from tests.server.security.world import World, world

API = "/api/v1"
_JSON = "application/json"
_STREAM = "text/event-stream"
_METHODS = ("GET", "POST", "DELETE", "PATCH", "PUT", "HEAD", "OPTIONS", "TRACE")


def _post(path: str, body: Any) -> bytes:
    return joined("1", path, "", f"content-type: {_JSON}\nidempotency-key: k1", json.dumps(body))


def _get(path: str, query: str = "", headers: str = "") -> bytes:
    return joined("0", path, query, headers, "")


_REQUESTS = (
    _post("/runs", {"workflow": "api-echo", "input": {"a": [1, 2.5]}, "options": {"labels": {"a": "b"}}}),
    _post("/runs", {"workflow": "api-count", "input": 2, "options": {"retry": {"attempts": 1, "delayMs": 5}}}),
    _post("/runs/RUN/pause", {"reason": "x"}),
    _post("/runs/RUN/resume", {}),
    _post("/runs/RUN/approve", {"seen": "1:ab"}),
    _post("/runs/RUN/requests", {"kind": "input", "prompt": "q", "schema": {"type": "integer", "minimum": 1}}),
    _post(
        "/runs/RUN/requests", {"kind": "approval", "prompt": "q", "payload": {"a": 1}, "config": {"approvers": ["a"]}}
    ),
    _post("/requests/REQ/respond", {"value": 5}),
    _post("/requests/REQ/approve", {"reason": "ok"}),
    _post("/runs/bulk", {"action": "pause", "filter": {"workflow": "none", "labels": {"a": "b"}}}),
    _post("/runs/RUN/fork", {"afterStep": "1"}),
    _post("/runs/RUN/retry", {}),
    _post("/runs/prune", {"olderThan": "2020-01-01T00:00:00Z"}),
    _get("/runs", "status=failed&label=a=b&text=x&startedAfter=2026-01-01T00:00:00Z&limit=5&cursor=7&parent=p"),
    _get("/requests", "open=all&kind=approval&run=x&limit=2&cursor=1&person=ann"),
    _get("/runs/RUN"),
    _get("/runs/RUN/events", "after=1&limit=3&newest=true"),
    _get("/runs/RUN/logs", "after=0"),
    _get("/runs/RUN/steps"),
    _get("/events", "after=2&limit=5"),
    _get("/requests/REQ"),
    _get("/statistics"),
    _get("/workflows"),
    _get("/runs/DONE/events", "after=1&logsAfter=2", f"accept: {_STREAM}\nlast-event-id: 2"),
    _get("/runs", "", "origin: http://127.0.0.1:8321\nsec-fetch-site: same-origin\ncookie: a=b; c=d"),
    _get("/runs", "", "authorization: Bearer osp_x\nhost: runs.example.org\ncontent-length: 5"),
)


class _Caller:
    """Sends raw requests to an application, as a server would that lets everything through."""

    def __init__(self, made: World, names: dict[bytes, bytes]) -> None:
        self._made = made
        self._names = names

    async def call(self, data: bytes) -> tuple[int, str, bytes]:
        """Status, kind and body of the answer; of a live stream what came at once."""
        number, path, query, lines, body = fields_of(data, 5)
        for name, value in self._names.items():
            path = path.replace(name, value)
        method = _METHODS[(number or b"0")[0] % len(_METHODS) if not number.isdigit() else int(number[:2]) % 8]
        given = [line.partition(b":")[::2] for line in lines.split(b"\n") if line]
        headers = [(name.strip().lower(), value.strip()) for name, value in given]
        kinds = {name for name, _ in headers}
        for name, value in ((b"host", b"127.0.0.1:8321"), (b"authorization", self._bearer())):
            if name not in kinds:
                headers.append((name, value))
        raw = API.encode() + b"/" + path.lstrip(b"/")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": _unquoted(raw), "raw_path": raw, "query_string": query, "root_path": "", "headers": headers,
            "client": ("127.0.0.1", 40_001), "server": ("127.0.0.1", 8321), "state": {},
        }  # fmt: skip
        answer: list[dict[str, Any]] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not waiting:
                await asyncio.sleep(0)
                return {"type": "http.disconnect"}
            return waiting.pop()

        async def send(message: Any) -> None:
            answer.append(message)

        try:
            await self._made.app(scope, receive, send)
        except Exception as error:
            raise Violation(f"the server meets {type(error).__name__}: {error}") from error
        sent = dict(answer[0]["headers"])
        kind = sent.get(b"content-type", b"").decode()
        return answer[0]["status"], kind, b"".join(one.get("body", b"") for one in answer[1:])

    def _bearer(self) -> bytes:
        return f"Bearer {self._made.secrets['everybody']}".encode()


def _unquoted(path: bytes) -> str:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path).decode("utf-8", "replace")


def _check(status: int, kind: str, body: bytes) -> None:
    if status >= 500:
        raise Violation(f"{status} {body[:300]!r}")
    if status >= 400 and body:
        if kind != "application/problem+json":
            raise Violation(f"{status} as {kind}: {body[:200]!r}")
        problem = json.loads(body)
        if problem["status"] != status or not problem["code"]:
            raise Violation(f"{status}, but the problem says {problem}")
    elif kind == _JSON and body:
        json.loads(body)


@contextmanager
def _server() -> Iterator[Try]:
    """A server with a few runs in this process."""

    async def opened(stack: AsyncExitStack) -> tuple[World, _Caller]:
        made = await stack.enter_async_context(world())
        await made.add_person("everybody", "viewer", "operator", "approver", "admin")
        run, done = await started(made, "api-question"), await started(made, "api-count", 1)
        request = await made.question(run)
        names = {b"RUN": run, b"DONE": done, b"REQ": request.id}
        return made, _Caller(made, {name: value.encode() for name, value in names.items()})

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        made, caller = runner.run(opened(stack))

        async def try_one(data: bytes) -> bool:
            status, kind, body = await caller.call(data)
            _check(status, kind, body)
            if status in (200, 201) and b'"id"' in body and kind == _JSON and data[:1] == b"1":
                await made.client.clock.settle()
                run = json.loads(body).get("runId") or json.loads(body)["id"]
                for path in (f"/runs/{run}", f"/runs/{run}/events", f"/runs/{run}/steps"):
                    status, kind, body = await caller.call(joined("0", path))
                    if status != 200:
                        raise Violation(f"what was accepted cannot be read at {path}: {status} {body[:300]!r}")
                    json.loads(body)
                return True
            return status < 400

        try:
            yield lambda data: runner.run(try_one(data))
        finally:
            runner.run(stack.aclose())


TARGETS = (Target("request", _REQUESTS, _server, batch=200, small=40),)
