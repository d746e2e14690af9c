"""Many runs that wait for people, over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from osprotocol import Client, Context, RunStatus, connect, step, workflow
from osprotocol.protocol.events import Event
from tests.crash.checks import problems

_RUNS = 1_000


@step
async def prepare(number: int) -> int:
    return number * 2


@workflow(name="engine.parked")
async def parked(ctx: Context, number: int) -> int:
    doubled = await ctx.step(prepare, number)
    approval = await ctx.wait_for_approval(f"Go on with {number}?")
    return await ctx.step(prepare, doubled) if approval.approved else 0


async def _inbox(client: Client) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    cursor: str | None = None
    while True:
        page = await client.requests(limit=200, cursor=cursor)
        found += [(request.run_id, request.id) for request in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def _park(path: Path, number: int) -> None:
    async with connect(path, durability="off", linger_ms=0) as client:
        await asyncio.gather(*(client.create_run(parked, one).start() for one in range(number)))
        asked = 0
        async for event in client.events():
            asked += event.type == "request.opened"
            if asked == number:
                break


async def _answer_all(path: Path, number: int) -> None:
    async with connect(path, durability="off") as client:
        inbox = await _inbox(client)
        assert len({run_id for run_id, _ in inbox}) == number
        executions = await asyncio.gather(*(client.get(run_id, parked) for run_id, _ in inbox))
        assert {execution.status for execution in executions} == {RunStatus.AWAITING}
        await asyncio.gather(
            *(one.approve(request_id=request_id) for one, (_, request_id) in zip(executions, inbox, strict=True))
        )
        results = await asyncio.gather(*(execution.result for execution in executions))
    assert sorted(results) == [4 * one for one in range(number)]
    assert problems(path) == []


async def test_a_thousand_parked_runs_are_answered_after_a_restart(tmp_path: Path) -> None:
    """All runs that waited before a restart are there after it, and all finish when they are answered."""
    await _park(tmp_path / "runs.db", _RUNS)
    await _answer_all(tmp_path / "runs.db", _RUNS)


@pytest.mark.long
async def test_ten_thousand_parked_runs_are_answered_after_a_restart(tmp_path: Path) -> None:
    """So it is with ten thousand."""
    await _park(tmp_path / "runs.db", 10 * _RUNS)
    await _answer_all(tmp_path / "runs.db", 10 * _RUNS)


async def test_a_restart_loads_no_waiting_run(tmp_path: Path) -> None:
    """A process that opens a database of waiting runs has none of them in memory until something happens to one."""
    await _park(tmp_path / "runs.db", 100)
    async with connect(tmp_path / "runs.db", durability="off") as client:
        (execution,) = [await client.get(run_id, parked) for run_id, _ in (await _inbox(client))[:1]]
        await execution.approve()
        await execution.result
        claims = [
            event.type
            for snapshot in (await client.list(status="awaiting", limit=200)).items
            async for event in _events_so_far(client, snapshot.id, snapshot.event)
            if event.type == "run.claimed"
        ]
    # Each of the others was claimed once, when it was started.
    assert len(claims) == 99


async def _events_so_far(client: Client, run_id: str, last: int) -> AsyncIterator[Event]:
    async for event in (await client.get(run_id)).events():
        yield event
        if event.number == last:
            return
