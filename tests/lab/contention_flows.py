"""What the processes of the contention harness do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import apsw

from osprotocol import Client, Context, connect, current_step, step, workflow
from osprotocol.errors import OSProtocolError, RunError
from tests.lab.crowd import append, log_into


@step(name="contention.effect")
async def effect(folder: str) -> int:
    """An effect, known outside of the engine by its key."""
    append(Path(folder) / "ledger", current_step().idempotency_key)
    return 1


@workflow(name="contention.single")
async def single(ctx: Context, folder: str) -> int:
    return await ctx.step(effect, folder)


@workflow(name="contention.sleeper")
async def sleeper(ctx: Context, folder: str) -> int:
    """Parked between its steps, so that each may be done by another process."""
    first = await ctx.step(effect, folder)
    await ctx.sleep(ms=1)
    second = await ctx.step(effect, folder)
    await ctx.sleep(ms=1)
    return first + second + await ctx.step(effect, folder)


@workflow(name="contention.family")
async def family(ctx: Context, folder: str) -> int:
    return sum(await ctx.gather(*(ctx.run(single, folder) for _ in range(3))))


@workflow(name="contention.asking")
async def asking(ctx: Context, folder: str) -> int:
    first = await ctx.step(effect, folder)
    approval = await ctx.wait_for_approval("Go on?")
    return first + (await ctx.step(effect, folder) if approval.approved else 0)


SHAPES = {"single": (single, 1), "sleeper": (sleeper, 3), "family": (family, 3), "asking": (asking, 2)}
"""By name: the workflow, and how many effects a run has, which is also its result."""


def work(folder: str) -> None:
    """A worker, until it is killed."""
    log_into(Path(folder) / "log")

    async def main() -> None:
        async with connect(Path(folder) / "runs.db", durability="off", linger_ms=0, concurrency=20):
            append(Path(folder) / "ready", "worker")
            await asyncio.get_running_loop().create_future()

    asyncio.run(main())


def begin(folder: str, shape: str, runs: int) -> None:
    """Start the runs, some at a time, and answer what they ask; tell how long each call took at worst."""
    log_into(Path(folder) / "log")
    asyncio.run(_begin(Path(folder), shape, runs))


async def _begin(folder: Path, shape: str, runs: int) -> None:
    worst_s = 0.0
    async with connect(folder / "runs.db", durability="off", worker=False) as client:
        for first in range(0, runs, 50):
            began = time.monotonic()
            calls = [
                client.create_run(SHAPES[shape][0], str(folder)).start() for _ in range(first, min(first + 50, runs))
            ]
            for execution in await asyncio.gather(*calls):
                append(folder / "accepted", execution.id)
            worst_s = max(worst_s, time.monotonic() - began)
        append(folder / "begun", worst_s)
        if shape == "asking":
            await _approve_all(client, runs)
    append(folder / "answered", 1)


async def _approve_all(client: Client, runs: int) -> None:
    approved = 0
    while approved < runs:
        page = await client.requests(limit=200)
        for request in page.items:
            with contextlib.suppress(RunError):
                await (await client.get(request.run_id)).approve(request_id=request.id, by="ann")
                approved += 1
        if not page.items:
            await asyncio.sleep(0.01)


def disturb(folder: str, hold_s: float) -> None:
    """Another program on the same file: reads for long, so that the log cannot be emptied, and writes now and then."""
    path = Path(folder) / "runs.db"
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    writer = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    writer.set_busy_timeout(10_000)
    while not (Path(folder) / "calm").exists():
        reader.execute("BEGIN; SELECT count(*) FROM journal")
        until = time.monotonic() + hold_s
        while time.monotonic() < until and not (Path(folder) / "calm").exists():
            writer.execute("BEGIN IMMEDIATE")
            time.sleep(0.01)
            writer.execute("ROLLBACK")
            time.sleep(0.03)
        reader.execute("ROLLBACK")
        append(Path(folder) / "disturbed", 1)
    reader.close()
    writer.close()


def settle_log(folder: str) -> None:
    """One more commit after the reader has gone, as an idle worker makes it sooner or later; then the log's size."""

    async def main() -> None:
        async with connect(Path(folder) / "runs.db", durability="off") as client:
            for _ in range(3):
                with contextlib.suppress(OSProtocolError):
                    await (await client.create_run(single, folder).start()).result

    asyncio.run(main())
