"""A run whose execution kills its process, among two hundred good ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from osprotocol import Client, Execution, RunStatus
from tests.processes.nursery import Nursery
from tests.processes.programs import Ledger, last, pair, poison
from tests.processes.waiting import terminal

_GOOD_RUNS = 200


@dataclass
class Scene:
    """Good runs and a bad one, with a supervisor that starts a new worker whenever one has died."""

    client: Client
    bad: Execution[str]
    good: list[Execution[list[int]]]
    deaths: int


@contextlib.asynccontextmanager
async def _scene(nursery: Nursery, path: Path, ledger: Ledger, cure: Path) -> AsyncIterator[Scene]:
    async with terminal(path) as client:
        good = [await client.create_run(pair, str(ledger.path)).start() for _ in range(_GOOD_RUNS // 2)]
        bad = await client.create_run(poison, [str(ledger.path), str(cure)]).start()
        good += [await client.create_run(pair, str(ledger.path)).start() for _ in range(_GOOD_RUNS // 2)]
        scene = Scene(client, bad, good, 0)
        worker = nursery.fork("work", path)
        while not (bad.requests and all(execution.status.is_final for execution in good)):
            await asyncio.sleep(0.005)
            if worker.has_ended():
                scene.deaths += 1
                worker = nursery.fork("work", path)
        yield scene


async def test_a_run_that_kills_its_worker_is_parked_after_three_deaths(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """After three workers have died of it the run awaits attention and says why."""
    async with _scene(nursery, path, ledger, tmp_path / "cure") as scene:
        assert scene.deaths == 3
        assert ledger.effects()[f"{scene.bad.id}:1"] == 3
        assert scene.bad.status is RunStatus.AWAITING
        (request,) = scene.bad.requests
        assert request.kind == "attention"
        assert "3 workers in a row died" in request.prompt


async def test_good_runs_finish_beside_one_that_kills_workers(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """Every good run completes, and none of its steps begins more than once more because of the bad one."""
    async with _scene(nursery, path, ledger, tmp_path / "cure") as scene:
        assert {execution.status for execution in scene.good} == {RunStatus.COMPLETED}
        effects = ledger.effects()
        assert max(effects[f"{execution.id}:{n}"] for execution in scene.good for n in (1, 2)) <= 2


async def test_long_good_runs_are_not_held_for_the_poison_beside_them(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """Runs whose steps outlast every worker that a bad one kills are neither parked nor starved by it."""
    async with terminal(path) as client:
        files = [str(ledger.path), str(tmp_path / "gate")]
        good = [await client.create_run(last, files).start() for _ in range(4)]
        bad = await client.create_run(poison, [str(ledger.path), str(tmp_path / "cure")]).start()
        worker = nursery.fork("work", path)
        deaths = 0
        while not bad.requests:
            await asyncio.sleep(0.005)
            if worker.has_ended():
                deaths += 1
                worker = nursery.fork("work", path)
            if deaths == 2:
                (tmp_path / "gate").touch()
        for execution in good:
            assert await execution.result > 0
        assert deaths == 3


async def test_a_parked_poison_run_goes_on_when_it_is_cured(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """Once what killed the workers is mended, `retry` as the answer lets the run go on to its end."""
    async with _scene(nursery, path, ledger, tmp_path / "cure") as scene:
        (tmp_path / "cure").touch()
        await scene.bad.respond("retry", by="ann")
        assert await scene.bad.result == "cured"
