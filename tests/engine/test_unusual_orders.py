"""Things that happen in an unusual order: each was once got wrong."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import cast

import pytest

import osprotocol
from osprotocol import Context, RunOptions, RunStatus, step, testing, workflow
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol.errors import EngineClosedError, IdempotencyConflictError, NoClientError, StepFailedError


@step
async def same(number: int) -> int:
    return number


@step
async def fails() -> None:
    raise ValueError("no")


@step
async def later() -> str:
    await asyncio.sleep(0.02)
    return "later"


@workflow(name="orders.caught")
async def caught(ctx: Context) -> bool:
    with contextlib.suppress(StepFailedError):
        await ctx.gather(ctx.step(fails), ctx.step(later))
    return (await ctx.wait_for_approval("Go on?")).approved


@workflow(name="orders.pair")
async def pair(ctx: Context) -> int:
    return await ctx.step(same, 1) + await ctx.step(same, 2)


@workflow(name="orders.foreign")
async def foreign(ctx: Context) -> None:
    await asyncio.Event().wait()


@workflow(name="orders.nap")
async def nap(ctx: Context) -> str:
    await ctx.sleep(ms=10_000)
    return "slept"


@workflow(name="orders.keyed")
async def keyed(ctx: Context, number: int) -> int:
    await ctx.wait_for_approval("Go on?")
    return number


@workflow(name="orders.greedy")
async def greedy(ctx: Context) -> str:
    while True:
        try:
            await ctx.sleep(ms=10_000)
            return "slept"
        except:  # noqa: E722 - what is tested
            pass


async def test_a_caught_failure_of_a_gather_can_be_replayed() -> None:
    """Branches that were finished beside a failed one are finished in replay too, not mistaken for changed code."""
    async with testing.connect(always_park=True) as client:
        execution = await caught.start()
        await client.clock.settle()
        await execution.approve()
        assert await execution.result is True


async def test_a_run_paused_in_memory_goes_on_after_its_worker_died() -> None:
    """What a paused run has to go on with is not lost with the memory that held it."""
    reached, opened = asyncio.Event(), asyncio.Event()

    @step
    async def held(number: int) -> int:
        reached.set()
        await opened.wait()
        return number

    @workflow(name="orders.held")
    async def both(ctx: Context) -> int:
        return await ctx.step(held, 1) + await ctx.step(same, 2)

    first = testing.connect(autojump=False, linger_ms=60_000)
    await first.open()
    execution = await first.create_run(both).start()
    await reached.wait()
    await execution.pause()
    opened.set()
    await first.clock.settle()
    async with testing.connect(beside=first, worker=False) as watching:
        await first.crash()
        async with testing.connect(beside=watching) as second:
            again = await second.get(execution.id, both)
            await again.resume()
            assert await again.result == 3
    with contextlib.suppress(EngineClosedError):
        await first.close()


@pytest.mark.filterwarnings("ignore:workflow:RuntimeWarning")
async def test_a_forced_cancel_frees_the_place_of_a_foreign_await() -> None:
    """A run that waits for something that its context did not make leaves its place when it is cancelled."""
    async with testing.connect(concurrency=1) as client:
        execution = await foreign.start()
        await client.clock.settle()
        assert await execution.cancel(graceful=False) == "cancelled"
        assert await (await pair.start()).result == 3


async def test_a_pause_under_a_gate_prolongs_a_sleep() -> None:
    """A sleep in memory is prolonged by a pause that ends while a gate still stands before the run."""
    async with testing.connect(autojump=False, linger_ms=600_000) as client:
        execution = await nap.start()
        await client.clock.settle()
        gate = asyncio.ensure_future(execution.wait_for_approval("Stop here?"))
        await client.clock.settle()
        await execution.pause()
        await client.clock.advance(ms=20_000)
        await execution.resume()
        await execution.approve()
        assert (await gate).approved
        await client.clock.advance(ms=9_000)
        assert execution.status is RunStatus.IN_PROGRESS
        await client.clock.advance(ms=1_000)
        assert await execution.result == "slept"


async def test_a_refused_start_leaves_the_callbacks_of_the_run_alone() -> None:
    """A start that is a conflict does not put its callbacks in place of the first one's."""
    heard: list[str] = []
    async with testing.connect() as client:
        first = RunOptions(idempotency_key="k", on_complete=lambda result: heard.append("first"))
        other = RunOptions(idempotency_key="k", on_complete=lambda result: heard.append("other"))
        execution = await keyed.start(1, first)
        with pytest.raises(IdempotencyConflictError):
            await keyed.start(2, other)
        await client.clock.settle()
        await execution.approve()
        assert await execution.result == 1
        assert heard == ["first"]


async def test_code_that_swallows_everything_is_abandoned(caplog: pytest.LogCaptureFixture) -> None:
    """A bare except around a wait cannot freeze the process: the code is left where it stands, and named."""
    async with testing.connect(always_park=True):
        assert await (await greedy.start()).result == "slept"
    assert "swallows the signal" in caplog.text


@workflow(name="orders.nested")
async def nested(ctx: Context, depth: int) -> bool:
    """Cleanup in cleanup, as deep as somebody may write it."""
    if depth == 0:
        return (await ctx.wait_for_approval("Go on?")).approved
    try:
        return await nested.function(ctx, depth - 1)
    finally:
        await ctx.step(same, depth)


async def test_cleanup_in_cleanup_is_not_taken_for_code_that_swallows_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every `finally` on the way out is told that the run leaves memory; only code that goes on all the same is odd."""
    async with testing.connect(always_park=True) as client:
        execution = await nested.start(9)
        await client.clock.settle()
        await execution.approve()
        assert await execution.result is True
    assert "swallows" not in caplog.text


async def test_a_worker_that_joins_again_looks_for_what_fell_due_meanwhile() -> None:
    """What another process parks while this one has lost its place is told to nobody here; it wakes all the same."""
    async with testing.connect(always_park=True, autojump=False) as client:
        execution = await nap.start()
        await client.clock.settle()
        engine = cast("EmbeddedEngine", client._engine)
        engine.timers._arm(engine.clock.now() + 10**12)  # as if nobody had told when the sleep ends
        (worker,) = await client.workers()
        await client.evict(worker.id)
        await client.clock.advance(ms=10_000)
        await client.clock.settle()
        assert execution.status is RunStatus.COMPLETED


async def test_run_under_a_running_loop_says_so() -> None:
    """osprotocol.run() in a program that has a loop is refused in words."""
    with pytest.raises(NoClientError, match="an event loop runs here already"):
        osprotocol.run(pair)


async def test_an_event_never_comes_before_the_state_that_it_made(tmp_path: Path) -> None:
    """An event that is read before its handle was told of it: the handle shows what the event tells."""
    async with osprotocol.connect(tmp_path / "runs.db") as here, osprotocol.connect(tmp_path / "runs.db") as there:
        execution = await here.create_run(caught).start()
        async for event in execution.events():
            if event.type == "request.opened":
                break
        other = await there.get(execution.id)
        for _ in range(10):
            seen = other.snapshot.event
            await execution.pause()
            async for event in other.events(seen):
                assert other.snapshot.event >= event.number
                break
            assert other.snapshot.status == RunStatus.AWAITING
            await execution.resume()


async def test_a_process_that_evicts_its_own_worker_goes_on_as_a_new_one() -> None:
    """Nothing is claimed any more by the worker whose runs were taken away, also if that was done right here."""
    async with testing.connect() as client:
        (before,) = await client.workers()
        await client.evict(before.id)
        await client.clock.settle()
        assert await (await pair.start()).result == 3
        known = {worker.id: worker.status for worker in await client.workers()}
        assert known.pop(before.id) == "evicted"
        assert list(known.values()) == ["alive"]
