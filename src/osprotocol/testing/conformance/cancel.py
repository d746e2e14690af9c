"""Section 5: cancel."""

import asyncio

from osprotocol.context import Context, current_step
from osprotocol.errors import CancelVetoedError, InvalidTransitionError, RunCancelledError
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.testing.conformance.harness import CLOCK, CRASH, SEVERAL_CLIENTS, Harness, Latch, refused
from osprotocol.testing.conformance.scenario import scenario


@scenario(5, SEVERAL_CLIENTS)
async def a_run_that_never_started_is_cancelled_at_once(h: Harness) -> None:
    """Cancel of a pending run says cancelled, and its code never runs."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(h.note, "a")

    execution = await h.start_pending(flow)
    assert await execution.cancel("no need", by="mia") == "cancelled"
    assert await h.status(execution) is RunStatus.CANCELLED
    assert (execution.snapshot.cancel_reason, execution.snapshot.cancelled_by) == ("no need", "mia")
    assert h.ledger == []


@scenario(5)
async def cancelled_error_is_raised_at_the_current_wait(h: Harness) -> None:
    """asyncio.CancelledError is raised where the run waits, and its finally blocks run."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        except asyncio.CancelledError:
            await ctx.step(latch.step)
            await ctx.step(h.note, "except")
            raise
        finally:
            await ctx.step(h.note, "finally")

    execution = await h.start(flow)
    assert await execution.cancel() == "cancelling"
    latch.opened.set()
    await h.error(execution, RunCancelledError)
    assert h.ledger == ["except", "finally"]


@scenario(5)
async def a_running_async_step_is_cancelled(h: Harness) -> None:
    """A cancel reaches an async step that runs, and sets its cancelled event."""
    latch, events = Latch(), list[bool]()

    async def work() -> None:
        current = current_step()
        try:
            await latch.step()
        finally:
            await asyncio.sleep(0)
            events.append(current.cancelled.is_set())

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(work)

    execution = await h.start(flow)
    await latch.reached.wait()
    await execution.cancel()
    await h.error(execution, RunCancelledError)
    assert latch.passes == 0
    assert len(events) == 1


@scenario(5)
async def the_result_of_a_cancelled_run_is_not_asyncios_error(h: Harness) -> None:
    """Result raises RunCancelledError with reason and actor, which is no asyncio.CancelledError."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await execution.cancel("changed my mind", by="mia")
    error = await h.error(execution, RunCancelledError)
    assert (error.reason, error.cancelled_by) == ("changed my mind", "mia")
    assert not isinstance(error, asyncio.CancelledError)


@scenario(5)
async def the_reason_of_the_call_wins(h: Harness) -> None:
    """The reason of the call wins over Cancel.reason, which holds when the call gives none."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    options = RunOptions(cancel=Cancel(reason="usual"))
    for given, kept in (("special", "special"), (None, "usual")):
        execution = await h.start(flow, options=options)
        await execution.cancel(given)
        assert (await h.error(execution, RunCancelledError)).reason == kept


@scenario(5)
async def open_requests_close_as_cancelled(h: Harness) -> None:
    """A cancel closes every open request as cancelled."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.gather(ctx.wait_for_approval("a?"), ctx.wait_for_input("b?"))

    execution = await h.start(flow)
    await execution.cancel()
    await h.error(execution, RunCancelledError)
    page = await h.client.requests(open=None, run_id=execution.id)
    assert [request.status for request in page.items] == ["cancelled", "cancelled"]


@scenario(5)
async def a_cancel_clears_a_pause(h: Harness) -> None:
    """A paused run can be cancelled, and its cleanup runs."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(h.note, "cleanup")

    execution = await h.start(flow)
    await execution.pause()
    await execution.cancel()
    await h.error(execution, RunCancelledError)
    assert h.ledger == ["cleanup"]
    assert execution.waiting_on == ()


@scenario(5)
async def only_a_returned_false_vetoes(h: Harness) -> None:
    """before_cancel vetoes with False: cancel raises CancelVetoedError and the run goes on."""
    verdicts = [False, None]

    @h.workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.wait_for_approval("go?")).outcome

    execution = await h.start(flow, options=RunOptions(cancel=Cancel(before_cancel=lambda: verdicts.pop(0))))
    with refused(CancelVetoedError):
        await execution.cancel()
    assert await h.status(execution) is RunStatus.AWAITING
    assert not execution.cancelling
    assert len(execution.requests) == 1
    await execution.cancel()
    await h.error(execution, RunCancelledError)


@scenario(5)
async def an_async_before_cancel_can_veto(h: Harness) -> None:
    """before_cancel may be an async function."""

    async def judge() -> bool:
        await asyncio.sleep(0)
        return False

    @h.workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.wait_for_approval("go?")).outcome

    execution = await h.start(flow, options=RunOptions(cancel=Cancel(before_cancel=judge)))
    with refused(CancelVetoedError):
        await execution.cancel()
    await execution.approve()
    assert await h.result(execution) == "approved"


@scenario(5)
async def an_exception_in_before_cancel_does_not_veto(h: Harness) -> None:
    """An exception in before_cancel is logged as callback.error and does not veto."""

    def judge() -> bool:
        raise ValueError("confused")

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow, options=RunOptions(cancel=Cancel(before_cancel=judge)))
    await execution.cancel()
    await h.error(execution, RunCancelledError)
    assert "callback.error" in await h.types(execution)


@scenario(5)
async def before_and_after_cancel_come_in_order(h: Harness) -> None:
    """before_cancel comes first, then the cleanup, then after_cancel with the reason."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(h.note, "cleanup")

    cancel = Cancel(
        before_cancel=lambda: h.ledger.append("before"), after_cancel=lambda reason: h.ledger.append(f"after {reason}")
    )
    execution = await h.start(flow, options=RunOptions(cancel=cancel))
    await execution.cancel("enough")
    await h.error(execution, RunCancelledError)
    assert h.ledger == ["before", "cleanup", "after enough"]


@scenario(5, CRASH)
async def without_a_worker_a_run_stays_cancelling_until_one_comes(h: Harness) -> None:
    """With no worker a cancelled run stays cancelling, a field, until one comes to run its cleanup."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(h.note, "cleanup")

    execution = await h.start(flow)
    await h.crash(h.client)
    teller = await h.connect(worker=False)
    told = await teller.get(execution.id)
    assert await told.cancel() == "cancelling"
    await told.refresh()
    assert told.cancelling
    assert not told.status.is_final
    h.client = await h.connect()
    await h.error(await h.again(execution), RunCancelledError)
    assert h.ledger == ["cleanup"]


@scenario(5, CRASH)
async def without_a_worker_force_cancels_at_once(h: Harness) -> None:
    """With no worker a run that is cancelling is cancelled by graceful=False."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await h.crash(h.client)
    teller = await h.connect(worker=False)
    told = await teller.get(execution.id)
    await told.cancel()
    assert await told.cancel(graceful=False) == "cancelled"
    await told.refresh()
    assert told.status is RunStatus.CANCELLED


@scenario(5)
async def a_child_follows_its_parents_cancel(h: Harness) -> None:
    """A child run is cancelled with its parent, with its own cleanup."""

    @h.workflow
    async def child(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(h.note, "child cleanup")

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.run(child)

    execution = await h.start(flow)
    await execution.cancel()
    await h.error(execution, RunCancelledError)
    await h.settle()
    (below,) = (await h.client.list(parent=execution.id)).items
    assert below.status is RunStatus.CANCELLED
    assert h.ledger == ["child cleanup"]


@scenario(5, CLOCK)
async def a_cancel_ends_a_sleep_and_a_retry_delay(h: Harness) -> None:
    """A run in a sleep is cancelled now, and one between two attempts too."""

    @h.workflow
    async def flow(ctx: Context, what: str) -> None:
        if what == "sleeps":
            await ctx.sleep(ms=60_000)
        raise ValueError(what)

    for what in ("sleeps", "fails"):
        execution = await h.start(flow, what, RunOptions(retry=Retry(attempts=1, delay_ms=60_000)))
        await execution.cancel()
        await h.error(execution, RunCancelledError)


@scenario(5)
async def every_branch_gets_the_cancellation(h: Harness) -> None:
    """A cancel reaches every branch of a gather, and each runs its cleanup."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        async def branch(name: str) -> None:
            try:
                await ctx.wait_for_approval(name)
            finally:
                await ctx.step(h.note, name)

        await ctx.gather(branch("a"), branch("b"))

    execution = await h.start(flow)
    await execution.cancel()
    await h.error(execution, RunCancelledError)
    assert sorted(h.ledger) == ["a", "b"]


@scenario(5)
async def pause_of_a_cancelling_run_is_refused(h: Harness) -> None:
    """A run that is being cancelled cannot be paused."""
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
    with refused(InvalidTransitionError) as caught:
        await execution.pause()
    assert caught.error.status == "cancelling"
    latch.opened.set()
    await h.error(execution, RunCancelledError)
