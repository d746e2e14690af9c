"""Section 3: the six statuses, what a run waits on, and its events."""

import asyncio
import itertools

from osprotocol.context import Context
from osprotocol.errors import InvalidTransitionError, RequestClosedError
from osprotocol.protocol.approval import ApprovalConfig
from osprotocol.protocol.run import RunStatus
from osprotocol.testing.conformance.harness import CLOCK, CRASH, SEVERAL_CLIENTS, Harness, Latch, refused
from osprotocol.testing.conformance.scenario import scenario


@scenario(3)
async def a_run_goes_from_pending_through_in_progress_to_completed(h: Harness) -> None:
    """A run is pending when accepted, in-progress when picked up, completed when its code returns."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(h.note, "a")

    execution = await h.start(flow)
    assert await h.result(execution) == "a"
    assert await h.statuses(execution) == ["pending", "in-progress", "completed"]


@scenario(3)
async def an_error_of_the_code_makes_a_run_failed(h: Harness) -> None:
    """A run whose code raises is failed."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        raise ValueError("no")

    execution = await h.start(flow)
    assert await h.status(execution) is RunStatus.FAILED
    assert await h.statuses(execution) == ["pending", "in-progress", "failed"]


@scenario(3, SEVERAL_CLIENTS)
async def pause_holds_a_pending_run(h: Harness) -> None:
    """A pause holds a pending run in pending until it is resumed."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(h.note, "a")

    execution = await h.start_pending(flow)
    await execution.pause()
    h.client = await h.connect()
    assert await h.status(execution) is RunStatus.PENDING
    assert h.ledger == []
    await execution.resume()
    assert await h.result(execution) == "a"


@scenario(3)
async def an_open_request_with_nothing_executing_is_awaiting(h: Harness) -> None:
    """A run is awaiting when a person must act and no code or step of it executes."""

    @h.workflow
    async def flow(ctx: Context) -> bool:
        return (await ctx.wait_for_approval("go?")).approved

    execution = await h.start(flow)
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.approve()
    assert await h.result(execution) is True
    assert await h.statuses(execution) == ["pending", "in-progress", "awaiting", "in-progress", "completed"]


@scenario(3)
async def a_step_beside_an_open_request_keeps_a_run_in_progress(h: Harness) -> None:
    """While a step of another branch executes, a run with an open request is in-progress, and waiting_on names it."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.gather(ctx.wait_for_approval("go?"), ctx.step(latch.step))

    execution = await h.start(flow)
    await latch.reached.wait()
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    assert [wait.kind for wait in execution.waiting_on] == ["approval"]
    latch.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING


@scenario(3, CLOCK)
async def a_durable_sleep_is_in_progress(h: Harness) -> None:
    """A run that only sleeps is in-progress."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=60_000)

    execution = await h.start(flow)
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    await h.advance(ms=60_000)
    assert await h.status(execution) is RunStatus.COMPLETED


@scenario(3, CLOCK)
async def timers_beside_a_request_do_not_matter(h: Harness) -> None:
    """A run with an open request and a sleep beside it is awaiting."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.gather(ctx.wait_for_approval("go?"), ctx.sleep(ms=60_000))

    execution = await h.start(flow)
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.approve()
    await h.advance(ms=60_000)
    assert await h.status(execution) is RunStatus.COMPLETED


@scenario(3, CLOCK)
async def a_timer_that_lets_code_go_on_leaves_awaiting(h: Harness) -> None:
    """A timer that lets code go on takes a run out of awaiting, while its request stays open."""
    latch = Latch()

    async def late(ctx: Context) -> None:
        await ctx.sleep(ms=1_000)
        await ctx.step(latch.step)

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.gather(ctx.wait_for_approval("go?"), late(ctx))

    execution = await h.start(flow)
    await h.advance(ms=1_000)
    await latch.reached.wait()
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    assert len(execution.requests) == 1
    latch.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING


@scenario(3)
async def an_answer_makes_a_run_in_progress(h: Harness) -> None:
    """A run whose request was answered is in-progress while its code goes on."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")
        await ctx.step(latch.step)

    execution = await h.start(flow)
    await execution.approve()
    await latch.reached.wait()
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    latch.opened.set()
    await h.result(execution)


@scenario(3)
async def a_child_that_executes_keeps_its_parent_in_progress(h: Harness) -> None:
    """A run is not awaiting while a child run of it executes."""
    latch = Latch()

    @h.workflow
    async def child(ctx: Context) -> str:
        return await ctx.step(latch.step)

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.gather(ctx.wait_for_approval("go?"), ctx.run(child))

    execution = await h.start(flow)
    await latch.reached.wait()
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    latch.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING


@scenario(3)
async def a_parent_of_a_child_that_asks_is_awaiting(h: Harness) -> None:
    """A run is awaiting when a person must act on its child and nothing of either executes."""

    @h.workflow
    async def child(ctx: Context) -> bool:
        return (await ctx.wait_for_approval("go?")).approved

    @h.workflow
    async def flow(ctx: Context) -> bool:
        return await ctx.run(child)

    execution = await h.start(flow)
    assert await h.status(execution) is RunStatus.AWAITING
    page = await h.client.list(parent=execution.id)
    await (await h.client.get(page.items[0].id)).approve()
    assert await h.result(execution) is True


@scenario(3)
async def waiting_on_tells_since_who_and_until(h: Harness) -> None:
    """Each entry of waiting_on has its kind, since when, who may act and until when."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000, approvers=["mia"]))

    execution = await h.start(flow)
    await h.status(execution)
    (wait,) = execution.waiting_on
    assert (wait.kind, wait.who, wait.prompt) == ("approval", ("mia",), "go?")
    assert wait.until is not None
    assert (wait.until - wait.since).total_seconds() == 5


@scenario(3)
async def waiting_on_is_empty_once_final(h: Harness) -> None:
    """A final run waits on nothing."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await execution.cancel(graceful=False)
    assert await h.status(execution) is RunStatus.CANCELLED
    assert execution.waiting_on == ()
    assert execution.requests == []


@scenario(3)
async def a_late_cancel_is_refused_with_the_final_status(h: Harness) -> None:
    """A cancel of a completed run is refused, and the error names its status."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(h.note, "a")

    execution = await h.start(flow)
    await h.result(execution)
    with refused(InvalidTransitionError) as caught:
        await execution.cancel()
    assert caught.error.status == "completed"
    assert await h.status(execution) is RunStatus.COMPLETED


@scenario(3)
async def a_late_answer_is_refused_with_the_final_status(h: Harness) -> None:
    """An answer without a request id to a cancelled run is refused, and the error names its status."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await execution.cancel(graceful=False)
    with refused(InvalidTransitionError) as caught:
        await execution.approve()
    assert caught.error.status == "cancelled"


@scenario(3)
async def a_late_answer_to_a_named_request_is_told_how_it_closed(h: Harness) -> None:
    """An answer to a request that a cancel closed is refused with that outcome."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    request = execution.requests[0]
    await execution.cancel(graceful=False)
    with refused(RequestClosedError) as caught:
        await execution.approve(request_id=request.id)
    assert caught.error.outcome == "cancelled"


@scenario(3)
async def nothing_takes_a_final_run_back(h: Harness) -> None:
    """Pause, resume and cancel leave a final run as it is, in each final status."""

    @h.workflow
    async def flow(ctx: Context, what: str) -> None:
        if what == "fails":
            raise ValueError(what)
        if what == "asks":
            await ctx.wait_for_approval("go?")

    for what, final in (("returns", "completed"), ("fails", "failed"), ("asks", "cancelled")):
        execution = await h.start(flow, what)
        if what == "asks":
            await execution.cancel(graceful=False)
        before = await h.events(execution)
        for verb in (execution.pause, execution.resume, execution.cancel):
            with refused(InvalidTransitionError):
                await verb()
        assert (await h.status(execution)).value == final
        assert await h.events(execution) == before


@scenario(3)
async def a_late_result_of_a_forced_cancel_is_refused(h: Harness) -> None:
    """A result that comes after the run was cancelled by force changes nothing."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        try:
            return await ctx.step(latch.step)
        except asyncio.CancelledError:
            return "swallowed"

    execution = await h.start(flow)
    await latch.reached.wait()
    assert await execution.cancel(graceful=False) == "cancelled"
    latch.opened.set()
    assert await h.status(execution) is RunStatus.CANCELLED


@scenario(3)
async def events_have_gapless_numbers_from_one(h: Harness) -> None:
    """Events of a run have numbers from 1 without gaps, up to the number in its snapshot."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")
        await ctx.gather(ctx.step(h.note, "b"), ctx.step(h.note, "c"))

    execution = await h.start(flow)
    await execution.pause()
    await execution.approve()
    await execution.resume()
    await h.result(execution)
    numbers = [event.number for event in await h.events(execution)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert execution.snapshot.event == len(numbers)


@scenario(3)
async def a_snapshot_and_the_events_after_it_are_everything(h: Harness) -> None:
    """The events after a snapshot's number are exactly those that came after it."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")
        await ctx.step(h.note, "a")

    execution = await h.start(flow)
    before = await h.events(execution)
    await execution.refresh()
    number = execution.snapshot.event
    await execution.approve()
    await h.result(execution)
    after = [event async for event in execution.events(after=number)]
    everything = [event async for event in execution.events()]
    assert before + after == everything


@scenario(3)
async def events_go_on_live_and_end_with_the_run(h: Harness) -> None:
    """The iterator of a run's events goes on live, skips nothing, and ends when the run is final."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)

    async def read() -> list[int]:
        return [event.number async for event in execution.events()]

    reading = asyncio.create_task(read())
    await h.settle()
    await execution.approve()
    await h.result(execution)
    numbers = await reading
    assert numbers == list(range(1, len(numbers) + 1))
    assert (await h.events(execution))[-1].number == len(numbers)


@scenario(3)
async def every_change_of_status_is_in_one_event(h: Harness) -> None:
    """Each change of status is told by exactly one event, and never the same status twice in a row."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("one?")
        await ctx.sleep(ms=1)
        await ctx.wait_for_input("two?")

    execution = await h.start(flow)
    await execution.approve()
    await h.advance(ms=10)
    await execution.pause()
    await execution.resume()
    await execution.respond("x")
    await h.result(execution)
    entered = await h.statuses(execution)
    assert all(before != after for before, after in itertools.pairwise(entered))
    assert entered[0] == "pending"
    assert entered[-1] == "completed"


@scenario(3)
async def the_request_and_its_status_are_one_change(h: Harness) -> None:
    """Whoever sees the status awaiting sees the open request that is the reason."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    seen: list[int] = []
    execution = await h.client.create_run(flow).start()
    async for event in execution.events():
        if event.status is RunStatus.AWAITING:
            await execution.refresh()
            seen.append(len(execution.requests))
            break
    assert seen == [1]


@scenario(3, CRASH)
async def a_crash_changes_no_status_of_a_waiting_run(h: Harness) -> None:
    """A run that waits for a person still does after its process died."""

    @h.workflow
    async def flow(ctx: Context) -> bool:
        return (await ctx.wait_for_approval("go?")).approved

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    assert await h.status(execution) is RunStatus.AWAITING
    assert len(execution.requests) == 1
    await execution.approve()
    assert await h.result(execution) is True
