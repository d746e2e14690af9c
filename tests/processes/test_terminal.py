"""A second process that does not work on runs: what it sees of them and does to them while another works."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from osprotocol import RunOptions, RunStatus
from osprotocol.errors import InvalidTransitionError, RequestClosedError, RunCancelledError
from osprotocol.protocol.request import Request
from tests.crash.checks import problems
from tests.processes.nursery import Nursery
from tests.processes.programs import Ledger, asking, gated, pair
from tests.processes.waiting import terminal, until, until_it, worker_of


async def test_another_process_sees_a_runs_status_change(nursery: Nursery, path: Path, ledger: Ledger) -> None:
    """An execution in a process that does not work follows the run without being asked to."""
    async with terminal(path) as client:
        execution = await client.create_run(asking, str(ledger.path)).start()
        seen = [execution.status]
        nursery.fork("work", path)
        await until(lambda: bool(execution.requests))
        seen.append(execution.status)
        assert seen == [RunStatus.PENDING, RunStatus.AWAITING]


async def test_another_process_lists_what_waits_for_people(nursery: Nursery, path: Path, ledger: Ledger) -> None:
    """The inbox of one process holds what the code in another asks."""
    async with terminal(path) as client:
        nursery.fork("work", path)
        execution = await client.create_run(asking, str(ledger.path)).start()
        await until(lambda: bool(execution.requests))
        (request,) = (await client.requests()).items
        assert (request.run_id, request.prompt) == (execution.id, "Begin?")
        (listed,) = (await client.list(status="awaiting")).items
        assert listed.id == execution.id


async def test_another_process_answers(nursery: Nursery, path: Path, ledger: Ledger) -> None:
    """An approval given in one process lets the code in another go on."""
    async with terminal(path) as client:
        worker = nursery.fork("work", path)
        execution = await client.create_run(asking, str(ledger.path)).start()
        await until(lambda: bool(execution.requests))
        await execution.approve("yes", by="ann")
        await until(lambda: ledger.count("effect") == 1)
        assert ledger.pids() == {worker.pid}


async def test_another_process_pauses_and_resumes(nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path) -> None:
    """A pause from another process lets the running step finish, starts none, and ends with a resume from there."""
    async with terminal(path) as client:
        nursery.fork("work", path)
        execution = await client.create_run(gated, [str(ledger.path), str(tmp_path / "gate")]).start()
        await until(lambda: ledger.count("effect") == 1)
        await execution.pause("wait a moment")
        (tmp_path / "gate").touch()
        await until(lambda: execution.status is RunStatus.AWAITING)
        assert ledger.count("returns") == 1
        assert ledger.count("effect") == 1
        await execution.resume()
        await execution.result
        assert ledger.count("effect") == 2


async def test_another_process_cancels(nursery: Nursery, path: Path, ledger: Ledger) -> None:
    """A cancel from another process ends a run whose code sleeps in the worker, with its reason."""
    async with terminal(path) as client:
        nursery.fork("work", path)
        execution = await client.create_run(asking, str(ledger.path)).start()
        await until(lambda: bool(execution.requests))
        await execution.approve()
        await until(lambda: ledger.count("effect") == 1)
        await execution.cancel("not today", by="ann")
        with pytest.raises(RunCancelledError, match="not today"):
            await execution.result
        assert problems(path) == []


async def test_a_forced_cancel_fences_what_another_process_executes(
    nursery: Nursery, path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    """A final run has no second interpreter: what the worker brings after a forced cancel changes nothing."""
    async with terminal(path) as client:
        worker = nursery.fork("work", path)
        execution = await client.create_run(gated, [str(ledger.path), str(tmp_path / "gate")]).start()
        await until(lambda: ledger.count("effect") == 1)
        worker.stop()
        assert await execution.cancel("now", graceful=False) == "cancelled"
        (tmp_path / "gate").touch()
        worker.go_on()
        # The worker is well and has seen it when it finishes another run.
        await (await client.create_run(pair, str(ledger.path)).start()).result
        assert (await execution.refresh()).status is RunStatus.CANCELLED
        assert ledger.count("effect", f"{execution.id}:2") == 0
        assert problems(path) == []


async def test_commands_on_a_final_run_of_another_process_are_refused(
    nursery: Nursery, path: Path, ledger: Ledger
) -> None:
    """Pause of a run that another process has finished says so."""
    async with terminal(path) as client:
        nursery.fork("work", path)
        execution = await client.create_run(pair, str(ledger.path)).start()
        await execution.result
        with pytest.raises(InvalidTransitionError, match="completed"):
            await execution.pause()


async def test_a_terminal_is_no_worker(nursery: Nursery, path: Path, ledger: Ledger) -> None:
    """A client with worker=False is not among the workers and executes nothing."""
    async with terminal(path) as client:
        worker = nursery.fork("work", path)
        await until_it(lambda: worker_of(client, worker.pid))
        assert await worker_of(client, os.getpid()) is None
        assert await (await client.create_run(pair, str(ledger.path)).start()).result == [worker.pid] * 2


async def test_two_processes_that_start_with_one_key_start_one_run(path: Path, ledger: Ledger) -> None:
    """Of many starts with one idempotency key, from two clients at once, one makes the run and all get it."""
    options = RunOptions(idempotency_key="one")
    async with terminal(path) as first, terminal(path) as second:
        started = await asyncio.gather(
            *(client.create_run(pair, str(ledger.path), options).start() for client in (first, second) * 10)
        )
        assert len({execution.id for execution in started}) == 1
        assert len((await first.list()).items) == 1


async def test_votes_from_two_processes_have_one_outcome(nursery: Nursery, path: Path, ledger: Ledger) -> None:
    """Of a yes and a no at once, from two clients, the first decides, and the other is told so."""
    async with terminal(path) as first, terminal(path) as second:
        nursery.fork("work", path)
        execution = await first.create_run(asking, str(ledger.path)).start()
        await until(lambda: bool(execution.requests))
        other = await second.get(execution.id)
        asked = execution.requests[0].id
        answers = await asyncio.gather(
            execution.approve(by="ann", request_id=asked),
            other.reject(by="bob", request_id=asked),
            return_exceptions=True,
        )
        (refused,) = [answer for answer in answers if isinstance(answer, RequestClosedError)]
        (decided,) = [answer for answer in answers if isinstance(answer, Request)]
        assert refused.outcome == decided.status
