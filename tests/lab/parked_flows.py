"""What the processes of the parked fleet do."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import apsw

from osprotocol import Client, Context, connect, current_step, step, workflow
from tests.lab.crowd import append

_STEPS = 16
"""So many that a parked run has twenty events."""
_AT_ONCE = 200
_CLAIMS = """
SELECT count(*) FROM journal j JOIN runs r ON r.key = j.run
WHERE r.workflow = 'parked.asking' AND j.type = 'run.claimed'
"""


@step(name="parked.part")
async def part(number: int) -> int:
    return number


@step(name="parked.fires")
async def fires(folder: str) -> int:
    """The effect that must not happen before somebody, or the time, lets it."""
    append(Path(folder) / "ledger", current_step().idempotency_key)
    return 1


@workflow(name="parked.asking")
async def asking(ctx: Context, folder: str) -> int:
    for number in range(_STEPS):
        await ctx.step(part, number)
    approval = await ctx.wait_for_approval("Go on?")
    return await ctx.step(fires, folder) if approval.approved else 0


@workflow(name="parked.sleeping")
async def sleeping(ctx: Context, given: tuple[str, float]) -> int:
    """Sleeps until an instant."""
    folder, until = given
    await ctx.sleep(ms=max(1, int((until - ctx.now().timestamp()) * 1_000)))
    return await ctx.step(fires, folder)


@workflow(name="parked.quick")
async def quick(ctx: Context) -> int:
    return await ctx.step(part, 7)


def rss_mb() -> float:
    """The memory that this process holds now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1_000
    return 0.0


def fill(folder: str, kind: str, runs: int, until: float) -> None:
    """Start the fleet and say when all of it is parked; then go on until killed."""
    asyncio.run(_fill(Path(folder), kind, runs, until))


async def _fill(folder: Path, kind: str, runs: int, until: float) -> None:
    async with connect(folder / "runs.db", durability="off", linger_ms=0) as client:
        for first in range(0, runs, _AT_ONCE):
            count = min(_AT_ONCE, runs - first)
            if kind == "asking":
                calls = [client.create_run(asking, str(folder)).start() for _ in range(count)]
            else:
                calls = [client.create_run(sleeping, (str(folder), until)).start() for _ in range(count)]
            await asyncio.gather(*calls)
        waited = 0
        wanted = "request.opened" if kind == "asking" else "sleep.started"
        async for event in client.events():
            waited += event.type == wanted
            if waited == runs:
                break
        append(folder / "filled", runs)
        await asyncio.get_running_loop().create_future()


def serve(folder: str, kind: str, runs: int) -> None:
    """The process after the restart: tells how soon it works and what it holds, and lets the fleet go on."""
    before = rss_mb()
    began = time.monotonic()
    asyncio.run(_serve(Path(folder), kind, runs, before, began))


async def _serve(folder: Path, kind: str, runs: int, before: float, began: float) -> None:
    async with connect(folder / "runs.db", durability="off", linger_ms=0) as client:
        assert await (await client.create_run(quick).start()).result == 7
        append(folder / "told", "ready", time.monotonic() - began)
        append(folder / "told", "memory", rss_mb() - before)
        # One claim each, from when they were started: a run that waits for a person is left alone.
        append(folder / "told", "early", _claims(folder) - runs if kind == "asking" else 0)
        began = time.monotonic()
        if kind == "asking":
            await _approve_all(client)
        worst = 0.0
        while len(_fired(folder)) < runs:
            asked = time.monotonic()
            assert await (await client.create_run(quick).start()).result == 7
            worst = max(worst, time.monotonic() - asked)
            append(folder / "pace", time.monotonic() - began, len(_fired(folder)))
            await asyncio.sleep(0.02)
        append(folder / "told", "neighbour", worst)
        append(folder / "told", "all", time.monotonic() - began)
        append(folder / "told", "peak", rss_mb() - before)


async def _approve_all(client: Client) -> None:
    cursor: str | None = None
    while True:
        page = await client.requests(limit=200, cursor=cursor)
        found = [(await client.get(request.run_id), request.id) for request in page.items]
        await asyncio.gather(*(run.approve(request_id=request_id, by="ann") for run, request_id in found))
        cursor = page.next_cursor
        if cursor is None:
            return


def _fired(folder: Path) -> list[str]:
    ledger = folder / "ledger"
    return ledger.read_text(encoding="ascii").splitlines() if ledger.exists() else []


def _claims(folder: Path) -> int:
    connection = apsw.Connection(str(folder / "runs.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return int(connection.execute(_CLAIMS).get)
    finally:
        connection.close()


def now_s() -> float:
    """The time of day, in seconds since 1970."""
    return datetime.now(UTC).timestamp()
