"""Workflows that the API's tests start, and hands to call a server with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2

from osprotocol import Context, TerminalError, step, workflow
from osprotocol.server.hub import Pace
from osprotocol.server.serve import address_of, serving
from osprotocol.server.settings import ServerSettings
from tests.server.security.world import World

API = "/api/v1"


@step
async def add_one(number: int) -> int:
    return number + 1


@step
async def refuse(text: str) -> str:
    raise TerminalError(text)


@workflow(name="api-count")
async def count(ctx: Context, steps: int = 3) -> int:
    number = 0
    for _ in range(steps):
        number = await ctx.step(add_one, number)
    return number


@workflow(name="api-echo")
async def echo(ctx: Context, value: Any) -> Any:
    ctx.log("echo", value=value)
    return value


@workflow(name="api-ask")
async def ask(ctx: Context, topic: str = "it") -> bool:
    ctx.log(f"asking about {topic}")
    await ctx.step(add_one, 1)
    return (await ctx.wait_for_approval(f"Publish {topic}?", payload={"topic": topic})).approved


@workflow(name="api-question")
async def question(ctx: Context) -> int:
    return await ctx.wait_for_input("How many?", int)


@workflow(name="api-fail")
async def fail(ctx: Context, text: str = "broken") -> str:
    await ctx.step(add_one, 1)
    return await ctx.step(refuse, text)


@workflow(name="api-echo-later")
async def echo_later(ctx: Context) -> bool:
    approval = await ctx.wait_for_approval("Write?")
    for number in range(5):
        ctx.log(f"line {number}")
    return approval.approved


@workflow(name="api-many")
async def many(ctx: Context) -> bool:
    """Has more events than a page."""
    await ctx.gather(*(ctx.step(add_one, number) for number in range(230)))
    return (await ctx.wait_for_approval("Enough?")).approved


async def call(
    made: World, person: str | None, method: str, path: str, *, json: Any = None, key: str | None = None, **more: Any
) -> httpx2.Response:
    """One request of somebody."""
    headers = dict(more.pop("headers", {})) | ({"Idempotency-Key": key} if key is not None else {})
    async with made.http(person) as http:
        if json is not None:
            more["json"] = json
        answer = await http.request(
            method, path if path.startswith("/healthz") else API + path, headers=headers, **more
        )
    await made.client.clock.settle()
    return answer


async def lines_of(made: World, run: str, count: int = 1) -> list[Any]:
    """The log of a run, once it has so many lines: they are stored a few times a second."""
    while True:
        lines = (await call(made, "operator", "GET", f"/runs/{run}/logs")).json()["items"]
        if len(lines) >= count:
            return list(lines)


async def started(made: World, name: str, value: Any = None, **more: Any) -> str:
    """A run that stands still; gives its id."""
    body = {"workflow": name, **({"input": value} if value is not None else {}), **more}
    answer = await call(made, "operator", "POST", "/runs", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


QUICK = Pace(batch_s=0.005, log_s=0.01, heartbeat_s=0.05, recheck_s=30.0)


@asynccontextmanager
async def on_a_port(made: World, settings: ServerSettings | None = None) -> AsyncIterator[str]:
    """The world's runs on a real port; gives the address."""
    given = replace(settings or ServerSettings(), port=0)
    async with serving(made.client, made.books, given) as taken:
        yield address_of(taken)


class Frames:
    """What a live stream sends, frame by frame, over a real connection."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> dict[str, str]:
        """The next frame: its fields, a comment as ``comment``; empty at the end."""
        frame: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                if frame and frame.keys() != {"retry"}:
                    return frame
                frame = {}
                continue
            name, _, value = line.partition(":")
            frame[name or "comment"] = value.removeprefix(" ")
        return {}

    async def events(self, count: int) -> list[dict[str, str]]:
        """The next so many frames with an id."""
        found: list[dict[str, str]] = []
        while len(found) < count:
            frame = await self.next()
            assert frame, f"the stream ended after {len(found)} of {count} events"
            if "id" in frame:
                found.append(frame)
        return found


@asynccontextmanager
async def stream(
    address: str, secret: str, path: str, last: str | None = None, **query: Any
) -> AsyncIterator[tuple[httpx2.Response, Frames]]:
    """A live stream of somebody."""
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {secret}"}
    if last is not None:
        headers["Last-Event-ID"] = last
    async with (
        # The connection is not encrypted: reading the machine's certificates would take the most of its time.
        httpx2.AsyncClient(base_url=address, timeout=httpx2.Timeout(30), verify=False) as http,
        http.stream("GET", API + path, headers=headers, params=query) as answer,
    ):
        yield answer, Frames(answer.aiter_lines())


async def until(condition: Any) -> None:
    """Wait until something in another task has become true."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.002)
