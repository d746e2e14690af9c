"""What a process that lives for long keeps of runs that have ended: nothing, whatever they did and whoever listens."""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
from pydantic_core import from_json, to_json
from starlette.types import Message

from osprotocol import Client, Context, Execution, RunOptions, connect, step, workflow
from osprotocol._embedded import engine as engine_module
from osprotocol._embedded import logs as logs_module
from osprotocol.errors import RunCancelledError, RunFailedError
from osprotocol.server import hub as hub_module
from osprotocol.server.access import Principal, Role
from osprotocol.server.stream import EventStream
from osprotocol.testing.served import Served

_AT_ONCE = 20
_BOUND = 40
_STRINGS = 100_000
"""More than the short strings that the JSON parser keeps in its table of 16,384 places."""
_RUNS = 60
_ROUNDS = 4
_BLOCKS_A_RUN = 5.0
"""Fewer than anything of ours takes that outlives a run with its journal, its branches or its code."""


@step
async def noted(number: int) -> int:
    return number


@step
def in_thread(number: int) -> int:
    return number


@workflow(name="lab.kept")
async def kept(ctx: Context, number: int) -> int:
    """All that leaves traces: steps, branches, a thread, a child, a log line, a sleep, a question, a failure."""
    ctx.log("begins", number=number)
    await ctx.gather(ctx.step(noted, number), ctx.step(in_thread, number))
    await ctx.sleep(ms=1)
    if number % 10 == 0:
        await ctx.run(kept, number + 1)
    if number % 5 == 2:
        return await ctx.wait_for_input("How many?", int)
    if number % 5 == 3:
        raise ValueError(f"no {number}")
    return number


@workflow(name="lab.empty")
async def empty(ctx: Context, number: int) -> int:
    return number


@pytest.fixture
def _small_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept up to a number is full soon."""
    monkeypatch.setattr(engine_module, "_KEYS", _BOUND)
    monkeypatch.setattr(logs_module, "_RUNS_COUNTED", _BOUND)
    monkeypatch.setattr(hub_module, "_RING_EVENTS", _BOUND)
    from_json(to_json([f"text {number}" for number in range(_STRINGS)]))


@contextmanager
def _folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="osp-lab-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@asynccontextmanager
async def _listening(client: Client) -> AsyncIterator[None]:
    """Somebody reads all events for ever, through the library and through a server."""

    async def read() -> None:
        async for _ in client.events():
            pass

    async def stream(served: Served) -> None:
        token = await served.token_of("ann")
        headers = {"Authorization": f"Bearer {token.secret}", "Accept": "text/event-stream"}
        async with (
            httpx2.AsyncClient(timeout=None, trust_env=False) as http,
            http.stream("GET", f"{served.url}/api/v1/events", headers=headers) as response,
        ):
            assert response.status_code == 200
            async for _ in response.aiter_bytes():
                pass

    async with Served(client) as served:
        tasks = [asyncio.create_task(work) for work in (read(), stream(served))]
        try:
            yield
            assert not any(task.done() for task in tasks), "a listener ended"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _one(client: Client, number: int) -> None:
    """One run from its start to its end, with a caller's functions, a key, and whatever people do to it."""
    options = RunOptions(
        on_complete=lambda value: None, on_status_change=lambda status: None,
        idempotency_key=f"key-{number}" if number % 2 else None,
    )  # fmt: skip
    execution: Execution[int] = await client.create_run(kept, number, options).start()
    if number % 5 == 4:
        await execution.cancel()
    try:
        if number % 5 == 2:
            async for event in execution.events():
                if event.type == "request.opened":
                    await execution.respond(number)
        await execution.result
    except (RunFailedError, RunCancelledError):
        pass


async def _blocks_after(client: Client, first: int, count: int) -> int:
    """Memory blocks that Python holds after so many more runs."""
    for begin in range(first, first + count, _AT_ONCE):
        await asyncio.gather(*(_one(client, number) for number in range(begin, begin + _AT_ONCE)))
    await asyncio.sleep(0.2)  # what is told later than a result is told: lines of logs, functions
    for _ in range(3):
        gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.usefixtures("_small_caches")
async def test_nothing_is_kept_of_runs_that_ended() -> None:
    """After runs of every kind memory is what it was before; somebody listens to all events the whole time."""
    with _folder() as folder:
        async with connect(folder / "runs.db", concurrency=4, linger_ms=0) as client, _listening(client):
            held = [await _blocks_after(client, number * _RUNS, _RUNS) for number in range(_ROUNDS + 2)][2:]
    # What is kept grows in every round; what comes and goes, as threads do, does not. Caches of pydantic and of Python
    # itself take up to two blocks a run until they are full; whatever of ours outlives a run is more.
    grown = [after - before for before, after in pairwise(held)]
    assert min(grown) < _BLOCKS_A_RUN * _RUNS, f"each {_RUNS} runs leave blocks of memory: {grown}"


async def _history(client: Client, runs: int) -> None:
    """Runs of three events each."""
    await asyncio.gather(*[client.create_run(empty, number).start() for number in range(runs)])
    async for event in client.events():
        runs -= event.type == "run.completed"
        if not runs:
            return


async def test_reading_a_long_history_holds_up_nobody() -> None:
    """Others have their turn between the pages of a stream that catches up, however quick its client is."""
    turns, at = 0, list[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def send(message: Message) -> None:
        if message.get("body", b"").startswith(b"id: "):
            at.append(turns)
        if len(at) == 5:
            raise ConnectionResetError

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {}

    with _folder() as folder:
        async with connect(folder / "runs.db") as client, Served(client) as served:
            await _history(client, 400)
            hub = served.app.state.serving.hub
            ann = Principal("ann", frozenset(Role), "test")

            async def still() -> Principal:
                return ann

            stream = EventStream(hub, client._engine, await hub.subscribe(ann, None, still), 1)
            ticking = asyncio.create_task(others())
            with pytest.raises(ConnectionResetError):
                await stream({"type": "http"}, receive, send)
            assert len(set(at)) == 5, "a page was sent in the same turn as the one before"
            # The same history through the library: two batches of five hundred and a bit.
            at.clear()
            async for event in client.events():
                at.append(turns)
                if event.cursor > 1_100:
                    break
            ticking.cancel()
    assert len(set(at)) >= 3, "a batch was read in the same turn as the one before"
