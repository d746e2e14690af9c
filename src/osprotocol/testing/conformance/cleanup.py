"""Section 5: the cleanup of a cancelled run, and its deadline."""

import asyncio
import contextlib

from osprotocol.context import Context
from osprotocol.errors import RunCancelledError
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.testing.conformance.harness import CLOCK, CRASH, Harness, Latch
from osprotocol.testing.conformance.scenario import scenario


@scenario(5)
async def cleanup_asks_nobody(h: Harness) -> None:
    """Cleanup code that asks a person gets an error instead of an answer, and the run still ends cancelled."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(h.note, "first")
            await ctx.wait_for_approval("really?")
            await ctx.step(h.note, "never")

    execution = await h.start(flow)
    await execution.cancel()
    await h.error(execution, RunCancelledError)
    assert h.ledger == ["first"]
    assert execution.requests == []


@scenario(5, CLOCK)
async def cleanup_has_until_an_absolute_deadline(h: Harness) -> None:
    """Cleanup that takes longer than graceful_timeout_ms is cut off: the run is cancelled at the deadline."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(latch.step)
            await ctx.step(h.note, "never")

    execution = await h.start(flow, options=RunOptions(cancel=Cancel(graceful_timeout_ms=3_000)))
    await execution.cancel()
    await latch.reached.wait()
    await h.advance(ms=2_999)
    assert execution.cancelling
    assert not execution.status.is_final
    await h.advance(ms=1)
    assert await h.status(execution) is RunStatus.CANCELLED
    latch.opened.set()
    await h.settle()
    assert h.ledger == []


@scenario(5, CLOCK)
async def the_default_grace_is_ten_seconds(h: Harness) -> None:
    """Without an option cleanup has ten seconds."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.sleep(ms=60_000)

    execution = await h.start(flow)
    await execution.cancel()
    await h.advance(ms=9_999)
    assert not execution.status.is_final
    await h.advance(ms=1)
    assert await h.status(execution) is RunStatus.CANCELLED


@scenario(5, CLOCK)
async def cleanup_may_sleep_within_its_deadline(h: Harness) -> None:
    """Cleanup may sleep, and the step after the sleep still runs before the deadline."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.sleep(ms=1_000)
            await ctx.step(h.note, "cleanup")

    execution = await h.start(flow)
    await execution.cancel()
    await h.advance(ms=1_000)
    await h.error(execution, RunCancelledError)
    assert h.ledger == ["cleanup"]


@scenario(5)
async def a_forced_cancel_runs_no_cleanup(h: Harness) -> None:
    """Cancel with graceful=False ends the run at once, without its cleanup."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(h.note, "cleanup")

    execution = await h.start(flow)
    assert await execution.cancel(graceful=False) == "cancelled"
    assert await h.status(execution) is RunStatus.CANCELLED
    assert h.ledger == []


@scenario(5)
async def force_ends_a_cancel_that_is_under_way(h: Harness) -> None:
    """A second cancel with graceful=False ends the cleanup of the first at once."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(latch.step)

    execution = await h.start(flow)
    assert await execution.cancel("first") == "cancelling"
    await latch.reached.wait()
    assert await execution.cancel(graceful=False) == "cancelled"
    assert (await h.error(execution, RunCancelledError)).reason == "first"


@scenario(5)
async def a_second_graceful_cancel_says_cancelling(h: Harness) -> None:
    """A second cancel while the cleanup runs says cancelling and repeats nothing."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(latch.step)

    execution = await h.start(flow)
    await execution.cancel()
    await latch.reached.wait()
    assert await execution.cancel() == "cancelling"
    latch.opened.set()
    await h.error(execution, RunCancelledError)
    assert latch.passes == 1


@scenario(5)
async def code_that_swallows_the_cancellation_ends_cancelled(h: Harness) -> None:
    """Code that swallows the cancellation and returns a result ends cancelled all the same."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await ctx.wait_for_approval("go?")
        return await ctx.step(h.note, "more")

    execution = await h.start(flow)
    await execution.cancel()
    await h.error(execution, RunCancelledError)
    assert await h.status(execution) is RunStatus.CANCELLED


@scenario(5)
async def code_that_raises_in_its_cleanup_ends_cancelled(h: Harness) -> None:
    """An error in the cleanup does not make a cancelled run failed, nor is it retried."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            raise ValueError("cleanup failed")

    execution = await h.start(flow, options=RunOptions(retry=Retry(attempts=3, delay_ms=0)))
    await execution.cancel()
    await h.error(execution, RunCancelledError)
    assert execution.attempt == 1


@scenario(5, CRASH)
async def a_crash_in_the_cleanup_repeats_nothing(h: Harness) -> None:
    """Where the cancellation was delivered is journaled: after a crash in the cleanup no done step of it runs again."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(h.note, "work")
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(h.note, "first")
            await ctx.step(latch.step)
            await ctx.step(h.note, "last")

    execution = await h.start(flow)
    await execution.cancel()
    await latch.reached.wait()
    latch.reached.clear()
    await h.restart()
    await latch.reached.wait()
    latch.opened.set()
    await h.error(await h.again(execution), RunCancelledError)
    assert h.ledger == ["work", "first", "last"]
