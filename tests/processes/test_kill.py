"""Kill -9 at random instants: the outside ledger says that nothing committed is lost or done again."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from osprotocol import Client, Execution, RunOptions
from tests.crash.checks import problems
from tests.processes.nursery import Nursery
from tests.processes.programs import Ledger, chain
from tests.processes.waiting import terminal

_KILLS = 15
_RUNS_AT_ONCE = 8


class Clients:
    """People in another process: they start runs, approve what is asked, and remember what they were told."""

    def __init__(self, client: Client, ledger: Ledger) -> None:
        self.client = client
        self.ledger = ledger
        self.started: list[Execution[str]] = []
        self.approved: set[str] = set()

    async def run(self, still: asyncio.Event) -> None:
        """Keep some runs going until told to stop."""
        while not still.is_set():
            waiting = [one for one in self.started if not one.status.is_final]
            if len(waiting) < _RUNS_AT_ONCE:
                options = RunOptions(idempotency_key=str(len(self.started)))
                run = self.client.create_run(chain, str(self.ledger.path), options)
                self.started.append(await run.start())
            await self.approve_all()
            await asyncio.sleep(0.002)

    async def approve_all(self) -> None:
        """Say yes to whatever is asked."""
        for request in (await self.client.requests(kind="approval")).items:
            if request.id not in self.approved:
                execution = await self.client.get(request.run_id)
                await execution.approve(request_id=request.id, by="ann")
                self.approved.add(request.id)


async def _kill_again_and_again(nursery: Nursery, path: Path, ledger: Ledger, kills: int, end_s: float) -> None:
    """Workers die one after the other while runs go on; a last one finishes, and the ledger has to be right."""
    chance = random.Random()
    async with terminal(path) as client:
        people, still = Clients(client, ledger), asyncio.Event()
        running = asyncio.ensure_future(people.run(still))
        killed = 0
        while killed < kills and time.monotonic() < end_s:
            worker = nursery.fork("work", path)
            await asyncio.sleep(chance.uniform(0.02, 0.15))
            worker.kill()
            killed += 1
        still.set()
        await running
        nursery.fork("work", path)
        while not all(execution.status.is_final for execution in people.started):
            await people.approve_all()
            for request in (await client.requests(kind="attention")).items:
                await (await client.get(request.run_id)).respond("retry", request_id=request.id)
            await asyncio.sleep(0.005)
        for execution in people.started:
            assert await execution.result == f"{execution.id}:7"
        assert len({execution.id for execution in people.started}) == len(people.started)
    _check(path, ledger, people, killed)


def _check(path: Path, ledger: Ledger, people: Clients, killed: int) -> None:
    assert ledger.broken_promises() == []
    assert problems(path) == []
    effects = ledger.effects()
    for execution in people.started:
        for position in (1, 2, 3, 6, 7):
            assert effects[f"{execution.id}:{position}"] >= 1
    # Each death can repeat the one step of each run that was on just then.
    extra = sum(count - (2 if key.endswith(":3") else 1) for key, count in effects.items())
    assert extra <= killed * _RUNS_AT_ONCE


async def test_killed_workers_lose_and_repeat_nothing_that_was_committed(
    nursery: Nursery, path: Path, ledger: Ledger
) -> None:
    """Fifteen workers killed at random instants lose nothing, and no committed step happens again."""
    await _kill_again_and_again(nursery, path, ledger, _KILLS, time.monotonic() + 30)


@pytest.mark.long
async def test_workers_killed_for_minutes_lose_and_repeat_nothing_that_was_committed(
    nursery: Nursery, path: Path, ledger: Ledger, budget_s: float
) -> None:
    """As many kills as the budget allows lose nothing either."""
    await _kill_again_and_again(nursery, path, ledger, 1_000_000, time.monotonic() + budget_s)
