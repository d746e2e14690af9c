"""Several worker processes on one file: who executes what, and what if one dies, freezes or is asked to end."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from osprotocol import Client, RunStatus
from tests.crash.checks import problems
from tests.processes.nursery import Nursery
from tests.processes.programs import Ledger, expiring, gated, last, pair
from tests.processes.waiting import looks_pass, terminal, until, until_it, worker_of

_RUNS = 60


@pytest.mark.parametrize("workers", [2, 4])
async def test_workers_share_the_runs_and_execute_each_once(
    workers: int, nursery: Nursery, path: Path, ledger: Ledger
) -> None:
    """Sixty runs on two or four workers: each step is executed once, and every worker executes some."""
    async with terminal(path) as client:
        children = [nursery.fork("work", path, 2) for _ in range(workers)]
        await until_it(lambda: _are_alive(client, workers))
        started = [await client.create_run(pair, str(ledger.path)).start() for _ in range(_RUNS)]
        results = [await execution.result for execution in started]
    effects = ledger.effects()
    assert len(effects) == 2 * _RUNS
    assert set(effects.values()) == {1}
    assert {pid for result in results for pid in result} == {child.pid for child in children}
    assert problems(path) == []


async def _are_alive(client: Client, number: int) -> bool:
    return sum(worker.status == "alive" for worker in await client.workers()) == number


async def test_a_dead_workers_run_is_taken_over_by_a_living_one(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """When a worker dies in the middle of a step, another process executes that step and brings the run to its end."""
    async with terminal(path) as client:
        first = nursery.fork("work", path)
        execution = await client.create_run(gated, [str(ledger.path), str(tmp_path / "gate")]).start()
        await until(lambda: ledger.count("effect") == 1)
        second = nursery.fork("work", path)
        await until_it(lambda: worker_of(client, second.pid))
        first.kill()
        await until(lambda: ledger.count("effect", f"{execution.id}:1", second.pid) == 1)
        (tmp_path / "gate").touch()
        assert await execution.result == [second.pid, second.pid]
        assert {worker.status for worker in await client.workers()} == {"dead", "alive"}


async def test_all_runs_of_a_dead_worker_are_taken_over_though_none_ends(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """Runs that executed when a worker died all execute again soon, not one after the other has ended."""
    async with terminal(path) as client:
        first = nursery.fork("work", path)
        files = [str(ledger.path), str(tmp_path / "gate")]
        started = [await client.create_run(last, files).start() for _ in range(5)]
        await until(lambda: ledger.count("effect") == 5)
        first.kill()
        second = nursery.fork("work", path)
        await until(lambda: ledger.count("effect") == 10)
        (tmp_path / "gate").touch()
        assert [await execution.result for execution in started] == [second.pid] * 5


async def test_a_frozen_workers_run_is_left_alone(nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path) -> None:
    """However long a living worker stands still, nobody takes its run; when it goes on, it finishes it itself."""
    async with terminal(path) as client:
        frozen = nursery.fork("work", path)
        execution = await client.create_run(gated, [str(ledger.path), str(tmp_path / "gate")]).start()
        await until(lambda: ledger.count("effect") == 1)
        other = nursery.fork("work", path)
        await until_it(lambda: worker_of(client, other.pid))
        frozen.stop()
        (tmp_path / "gate").touch()
        await looks_pass()
        assert ledger.pids() == {frozen.pid}
        frozen.go_on()
        assert await execution.result == [frozen.pid, frozen.pid]
        assert set(ledger.effects().values()) == {1}


async def test_an_evicted_workers_runs_go_on_elsewhere(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """`evict` takes the runs of a frozen worker away at once, and another one executes them."""
    async with terminal(path) as client:
        frozen = nursery.fork("work", path)
        execution = await client.create_run(gated, [str(ledger.path), str(tmp_path / "gate")]).start()
        await until(lambda: ledger.count("effect") == 1)
        other = nursery.fork("work", path)
        await until_it(lambda: worker_of(client, other.pid))
        known = await worker_of(client, frozen.pid)
        assert known is not None
        frozen.stop()
        assert await client.evict(known.id) == 1
        (tmp_path / "gate").touch()
        assert await execution.result == [other.pid, other.pid]


async def test_what_an_evicted_worker_still_writes_is_refused(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """After SIGCONT an evicted worker's result does not count, though nobody else has taken the run yet."""
    async with terminal(path) as client:
        frozen = nursery.fork("work", path)
        execution = await client.create_run(gated, [str(ledger.path), str(tmp_path / "gate")]).start()
        await until(lambda: ledger.count("effect") == 1)
        known = await worker_of(client, frozen.pid)
        assert known is not None
        frozen.stop()
        await client.evict(known.id)
        (tmp_path / "gate").touch()
        frozen.go_on()
        assert await execution.result == [frozen.pid, frozen.pid]
        # The first try's outcome was refused: the step began again under the worker's new name.
        assert ledger.count("effect", f"{execution.id}:1") == 2
        events = [event async for event in execution.events()]
        owners = {event.data["worker"] for event in events if event.type == "run.claimed"}
        assert len(owners) == 2
        assert problems(path) == []


async def test_the_result_of_a_run_from_an_evicted_worker_is_refused(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """An evicted worker whose code was about to return does not end the run."""
    async with terminal(path) as client:
        frozen = nursery.fork("work", path)
        execution = await client.create_run(last, [str(ledger.path), str(tmp_path / "gate")]).start()
        await until(lambda: ledger.count("effect") == 1)
        known = await worker_of(client, frozen.pid)
        assert known is not None
        frozen.stop()
        await client.evict(known.id)
        (tmp_path / "gate").touch()
        frozen.go_on()
        await execution.result
        assert ledger.count("effect") == 2
        assert problems(path) == []


async def test_an_evicted_worker_goes_on_as_a_new_one(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """A worker that was evicted while it was frozen registers anew when it goes on, and works."""
    async with terminal(path) as client:
        frozen = nursery.fork("work", path)
        await client.create_run(gated, [str(ledger.path), str(tmp_path / "gate")]).start()
        await until(lambda: ledger.count("effect") == 1)
        known = await worker_of(client, frozen.pid)
        assert known is not None
        frozen.stop()
        await client.evict(known.id)
        frozen.go_on()
        await until_it(lambda: worker_of(client, frozen.pid))
        renewed = await worker_of(client, frozen.pid)
        assert renewed is not None
        assert renewed.id != known.id
        assert await (await client.create_run(pair, str(ledger.path)).start()).result == [frozen.pid] * 2
        (tmp_path / "gate").touch()


async def test_an_idle_worker_that_is_evicted_goes_on_as_a_new_one(
    nursery: Nursery, path: Path, ledger: Ledger
) -> None:
    """A living worker without runs that somebody evicts registers anew, and works."""
    async with terminal(path) as client:
        worker = nursery.fork("work", path)
        await until_it(lambda: worker_of(client, worker.pid))
        known = await worker_of(client, worker.pid)
        assert known is not None
        assert await client.evict(known.id) == 0
        assert await (await client.create_run(pair, str(ledger.path)).start()).result == [worker.pid] * 2
        renewed = await worker_of(client, worker.pid)
        assert renewed is not None
        assert renewed.id != known.id


async def test_a_request_of_a_frozen_worker_expires_in_time(nursery: Nursery, path: Path, ledger: Ledger) -> None:
    """The deadline of a request is kept by any living worker when the one that holds the run stands still."""
    async with terminal(path) as client:
        frozen = nursery.fork("work", path)
        execution = await client.create_run(expiring, str(ledger.path)).start()
        await until(lambda: ledger.count("effect") == 1)
        await until(lambda: execution.status is RunStatus.AWAITING)
        frozen.stop()
        nursery.fork("work", path)
        await until(lambda: not execution.requests)
        assert execution.status is RunStatus.IN_PROGRESS
        frozen.go_on()
        assert await execution.result == "expired"


async def test_sigterm_parks_what_runs_and_nothing_is_lost(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """A worker that gets SIGTERM ends, leaves its runs unharmed, and the next one finishes them."""
    async with terminal(path) as client:
        first = nursery.fork("work", path)
        started = [await client.create_run(pair, str(ledger.path)).start() for _ in range(20)]
        await until(lambda: ledger.count("effect") >= 3)
        assert await asyncio.to_thread(first.terminate) == -signal.SIGTERM
        assert {worker.status for worker in await client.workers()} == {"stopped"}
        assert problems(path) == []
        second = nursery.fork("work", path)
        for execution in started:
            assert set(await execution.result) <= {first.pid, second.pid}
        # Running steps were waited for: not one was done again.
        assert set(ledger.effects().values()) == {1}


async def test_a_run_whose_workflow_nobody_knows_stays_and_says_so(path: Path, ledger: Ledger) -> None:
    """Without a worker a started run stays pending, and its snapshot tells what it lacks."""
    async with terminal(path) as client:
        execution = await client.create_run(pair, str(ledger.path)).start()
        assert execution.status is RunStatus.PENDING
        assert "processes.pair" in (execution.snapshot.stuck or "")
