"""Section 2: what is committed stays, and what a step gives is what it gives again."""

import threading
from typing import Any

from osprotocol.context import Context, current_step
from osprotocol.errors import RunFailedError
from osprotocol.protocol.run import RunStatus
from osprotocol.testing.conformance.harness import CLOCK, CRASH, Harness, Latch
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import step


@scenario(2, CRASH)
async def a_committed_step_never_runs_again(h: Harness) -> None:
    """A step whose result is committed does not run again after a crash."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        first = await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")
        return first + await ctx.step(h.note, "b")

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.result(execution) == "ab"
    assert h.ledger == ["a", "b"]


@scenario(2, CRASH)
async def a_step_that_was_running_at_a_crash_runs_again(h: Harness) -> None:
    """A step that the crash interrupted before its commit runs again."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.step(h.note, "before")
        return await ctx.step(latch.step)

    execution = await h.start(flow)
    await latch.reached.wait()
    latch.reached.clear()
    await h.restart()
    await latch.reached.wait()
    latch.opened.set()
    assert await h.result(await h.again(execution)) == "done"
    assert h.ledger == ["before"]


@scenario(2, CRASH)
async def a_step_is_committed_before_the_next_begins(h: Harness) -> None:
    """When a step begins, the one before it is in the journal already."""
    seen: list[list[str]] = []
    runs: list[Any] = []

    async def look() -> None:
        other = await h.client.get(runs[0])
        seen.append([f"{record.name} {record.status}" for record in await other.steps()])

    @h.workflow
    async def flow(ctx: Context) -> None:
        runs.append(ctx.id)
        await ctx.step(h.note, "a")
        await ctx.step(look)

    await h.result(await h.start(flow))
    assert "note completed" in seen[0]


@scenario(2, CRASH)
async def at_most_once_waits_for_attention_after_a_crash(h: Harness) -> None:
    """An at-most-once step that a crash interrupted is not run again: the run waits for attention."""
    latch = Latch()

    async def pay() -> str:
        h.ledger.append("paid")
        return await latch.step("receipt")

    once = step(at_most_once=True)(pay)

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(once)

    execution = await h.start(flow)
    await latch.reached.wait()
    await h.restart()
    execution = await h.again(execution)
    assert await h.status(execution) is RunStatus.AWAITING
    assert [wait.kind for wait in execution.waiting_on] == ["attention"]
    assert h.ledger == ["paid"]
    await execution.respond({"action": "skip", "value": "by hand"})
    assert await h.result(execution) == "by hand"
    assert h.ledger == ["paid"]


@scenario(2, CRASH)
async def attention_for_an_interrupted_step_can_retry_it(h: Harness) -> None:
    """The answer retry to an interrupted at-most-once step runs it again."""
    latch = Latch()

    async def pay() -> str:
        h.ledger.append("paid")
        return await latch.step("receipt")

    once = step(at_most_once=True)(pay)

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(once)

    execution = await h.start(flow)
    await latch.reached.wait()
    await h.restart()
    execution = await h.again(execution)
    await h.settle()
    latch.opened.set()
    await execution.respond("retry")
    assert await h.result(execution) == "receipt"
    assert h.ledger == ["paid", "paid"]


@scenario(2)
async def at_most_once_is_never_retried_by_itself(h: Harness) -> None:
    """A failing at-most-once step is tried once."""
    once = step(at_most_once=True)(h.fail)

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(once, "broken")

    await h.error(await h.start(flow), RunFailedError)
    assert h.ledger == ["broken"]


@scenario(2, CRASH)
async def a_completed_at_most_once_step_is_not_asked_about(h: Harness) -> None:
    """An at-most-once step whose result is committed replays like any other."""
    once = step(at_most_once=True)(h.note)

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.step(once, "a")
        await ctx.wait_for_approval("go?")
        return "end"

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.result(execution) == "end"
    assert h.ledger == ["a"]


@scenario(2)
async def except_exception_does_not_swallow_the_unwinding(h: Harness) -> None:
    """Code that catches Exception around a wait comes back to that wait, and its handler does not run."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        try:
            approval = await ctx.wait_for_approval("go?")
        except Exception:  # noqa: BLE001 - what users write
            h.ledger.append("swallowed")
            return "swallowed"
        return str(approval.outcome)

    execution = await h.start(flow)
    await execution.approve()
    assert await h.result(execution) == "approved"
    assert h.ledger == []


@scenario(2)
async def context_calls_while_unwinding_do_nothing(h: Harness) -> None:
    """A context call in a finally block that runs because the code is unwound has no effect then."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(h.note, "finally")

    execution = await h.start(flow)
    assert h.ledger == []
    await execution.approve()
    await h.result(execution)
    assert h.ledger == ["finally"]


@scenario(2, CRASH)
async def code_outside_of_steps_runs_again(h: Harness) -> None:
    """Code outside of steps runs again on replay."""
    passes: list[int] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        passes.append(1)
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert len(passes) >= 2


@scenario(2, CRASH, CLOCK)
async def the_order_of_completions_is_replayed(h: Harness) -> None:
    """Replay hands out completions in the order of the journal, not of the code."""
    orders: list[list[str]] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        order: list[str] = []

        async def branch(name: str, ms: int) -> None:
            await ctx.sleep(ms=ms)
            order.append(name)

        await ctx.gather(branch("slow", 300), branch("quick", 100), branch("middle", 200))
        await ctx.wait_for_approval("go?")
        orders.append(order)

    execution = await h.start(flow)
    await h.advance(ms=300)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert orders[-1] == ["quick", "middle", "slow"]


@scenario(2)
async def a_sync_step_runs_in_a_thread(h: Harness) -> None:
    """A step that is a plain function runs in a thread of its own, with current_step."""
    here = threading.get_ident()

    def work() -> bool:
        return threading.get_ident() != here and current_step().attempt == 1

    @h.workflow
    async def flow(ctx: Context) -> bool:
        return await ctx.step(work)

    assert await h.result(await h.start(flow)) is True


@scenario(2, CRASH)
async def no_process_is_needed_while_a_run_waits(h: Harness) -> None:
    """A request can be answered while no worker lives, and the run goes on when one comes."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        approval = await ctx.wait_for_approval("go?")
        return await ctx.step(h.note, approval.outcome)

    execution = await h.start(flow)
    await h.crash(h.client)
    teller = await h.connect(worker=False)
    await (await teller.get(execution.id)).approve()
    assert h.ledger == []
    h.client = await h.connect()
    assert await h.result(await h.again(execution)) == "approved"


@scenario(2, CRASH, CLOCK)
async def a_sleep_goes_on_over_a_crash(h: Harness) -> None:
    """A sleep ends at the instant that was stored when it began, whatever dies in between."""

    @h.workflow
    async def flow(ctx: Context) -> float:
        began = ctx.now()
        await ctx.sleep(ms=10_000)
        return (ctx.now() - began).total_seconds()

    execution = await h.start(flow)
    await h.advance(ms=6_000)
    await h.restart()
    await h.advance(ms=3_999)
    execution = await h.again(execution)
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    await h.advance(ms=1)
    assert await h.result(execution) == 10.0


@scenario(2, CRASH, CLOCK)
async def a_sleep_that_ended_while_nobody_lived_is_over_at_once(h: Harness) -> None:
    """A sleep whose instant passed while no worker lived is over when one comes."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.sleep(ms=10_000)
        return "awake"

    execution = await h.start(flow)
    await h.crash(h.client)
    await h.advance(ms=20_000)
    h.client = await h.connect()
    assert await h.result(await h.again(execution)) == "awake"


@scenario(2)
async def results_of_steps_are_told_after_their_commit(h: Harness) -> None:
    """A result that someone outside is told is in the journal by then."""
    steps: list[str] = []

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(h.note, "a")

    execution = await h.client.create_run(flow).start()
    assert await h.result(execution) == "a"
    steps += [f"{record.name} {record.status} {record.result}" for record in await execution.steps()]
    assert steps == ["note completed a"]


@scenario(2)
async def steps_tells_what_the_journal_holds(h: Harness) -> None:
    """execution.steps gives every operation with kind, name, status and result, in the order in which they began."""

    @h.workflow
    async def child(ctx: Context) -> int:
        return 7

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(h.note, "a")
        await ctx.sleep(ms=0)
        await ctx.run(child)
        await ctx.wait_for_input("x?", int)

    execution = await h.start(flow)
    await execution.respond(3)
    await h.result(execution)
    records = await execution.steps()
    assert [record.kind for record in records] == ["step", "sleep", "child", "request"]
    assert {record.status for record in records} == {"completed"}
    assert records[0].result == "a"
    assert records[2].result == 7
