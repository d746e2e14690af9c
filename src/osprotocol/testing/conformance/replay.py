"""Section 2: changed code, foreign awaits, and wrong tasks."""

import asyncio
import warnings

from osprotocol.context import Context
from osprotocol.errors import ForeignAwaitError, RunFailedError, WrongTaskError
from osprotocol.protocol.run import RunStatus
from osprotocol.testing.conformance.harness import CRASH, Harness, Latch
from osprotocol.testing.conformance.scenario import scenario


@scenario(2, CRASH)
async def another_step_at_a_recorded_place_is_a_mismatch(h: Harness) -> None:
    """Changed code that asks for another step stops the run before any further effect, both sides named."""

    async def other(what: str) -> str:
        h.ledger.append("other")
        return what

    async def before(ctx: Context) -> str:
        first = await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")
        return first

    async def after(ctx: Context) -> str:
        first = await ctx.step(other, "a")
        await ctx.step(h.note, "more")
        return first

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(after, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.status(execution) is RunStatus.AWAITING
    (request,) = execution.requests
    assert request.kind == "attention"
    assert "note" in request.prompt
    assert "other" in request.prompt
    assert h.ledger == ["a"]


@scenario(2, CRASH)
async def other_arguments_at_a_recorded_place_are_a_mismatch(h: Harness) -> None:
    """Changed code that gives a recorded step other arguments stops the run before any further effect."""

    async def before(ctx: Context) -> None:
        await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")

    async def after(ctx: Context) -> None:
        await ctx.step(h.note, "b")
        await ctx.wait_for_approval("go?")
        await ctx.step(h.note, "c")

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(after, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [wait.kind for wait in execution.waiting_on] == ["attention"]
    assert h.ledger == ["a"]


@scenario(2, CRASH)
async def another_kind_at_a_recorded_place_is_a_mismatch(h: Harness) -> None:
    """Changed code that sleeps where the journal holds a step stops the run."""

    async def before(ctx: Context) -> None:
        await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")

    async def after(ctx: Context) -> None:
        await ctx.sleep(ms=1)
        await ctx.step(h.note, "b")

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(after, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [wait.kind for wait in execution.waiting_on] == ["attention"]
    assert h.ledger == ["a"]


@scenario(2, CRASH)
async def code_that_returns_too_early_is_a_mismatch(h: Harness) -> None:
    """Changed code that no longer asks for what the journal holds stops the run, and does not complete it."""

    async def before(ctx: Context) -> None:
        await ctx.step(h.note, "a")
        await ctx.step(h.note, "b")
        await ctx.wait_for_approval("go?")

    async def after(ctx: Context) -> None:
        await ctx.step(h.note, "a")

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(after, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [wait.kind for wait in execution.waiting_on] == ["attention"]


@scenario(2, CRASH)
async def code_that_fails_too_early_is_a_mismatch(h: Harness) -> None:
    """Changed code that raises before it has asked for what the journal holds stops the run, and does not fail it."""

    async def before(ctx: Context) -> None:
        await ctx.step(h.note, "a")
        await ctx.step(h.note, "b")
        await ctx.wait_for_approval("go?")

    async def after(ctx: Context) -> None:
        await ctx.step(h.note, "a")
        raise ValueError("new code")

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(after, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [wait.kind for wait in execution.waiting_on] == ["attention"]


@scenario(2, CRASH)
async def changed_code_behind_an_open_request_is_a_mismatch(h: Harness) -> None:
    """Changed code that asks another question than the open one stops the run, and the old question is not lost."""

    async def before(ctx: Context) -> str:
        await ctx.step(h.note, "a")
        return (await ctx.wait_for_approval("go?")).outcome

    async def after(ctx: Context) -> str:
        await ctx.step(h.note, "a")
        return await ctx.wait_for_input("a name?")

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(after, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [wait.kind for wait in execution.waiting_on] == ["attention"]


@scenario(2, CRASH)
async def mended_code_goes_on_after_retry(h: Harness) -> None:
    """After the code is mended, the answer retry goes on from where the run was."""

    async def before(ctx: Context) -> str:
        first = await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")
        return first

    async def broken(ctx: Context) -> str:
        return await ctx.step(h.note, "z")

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(broken, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.status(execution) is RunStatus.AWAITING
    h.define(before, name=flow.name)
    await execution.respond("retry")
    assert await h.result(execution) == "a"
    assert h.ledger == ["a"]


@scenario(2, CRASH)
async def retry_of_code_that_is_still_wrong_asks_again(h: Harness) -> None:
    """The answer retry while the code is still wrong leads to attention again, and to no effect."""

    async def before(ctx: Context) -> None:
        await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")

    async def broken(ctx: Context) -> None:
        await ctx.step(h.note, "z")

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(broken, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    await h.settle()
    first = execution.requests[0]
    await execution.respond("retry")
    assert await h.status(execution) is RunStatus.AWAITING
    (second,) = execution.requests
    assert second.id != first.id
    assert h.ledger == ["a"]


@scenario(2, CRASH)
async def a_mismatch_in_a_branch_stops_every_branch(h: Harness) -> None:
    """A mismatch in one branch stops the run before any further effect of any branch."""

    async def before(ctx: Context) -> None:
        await ctx.gather(ctx.step(h.note, "a"), ctx.step(h.note, "b"))
        await ctx.wait_for_approval("go?")

    async def after(ctx: Context) -> None:
        async def branch() -> None:
            await ctx.step(h.note, "a")
            await ctx.step(h.note, "effect")

        await ctx.gather(branch(), ctx.step(h.note, "changed"))

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(after, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [wait.kind for wait in execution.waiting_on] == ["attention"]
    assert sorted(h.ledger) == ["a", "b"]


@scenario(2)
async def awaiting_asyncio_sleep_is_told_with_file_and_line(h: Harness) -> None:
    """A workflow that awaits asyncio.sleep is warned with file and line and with what to use instead."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        await asyncio.sleep(0.001)
        return await ctx.step(h.note, "a")

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert await h.result(await h.start(flow)) == "a"
    text = str(told[0].message)
    assert "replay.py:" in text
    assert "ctx.sleep" in text


@scenario(2)
async def a_strict_workflow_fails_on_a_foreign_await(h: Harness) -> None:
    """In a strict workflow a foreign await is an error at that place."""

    async def flow(ctx: Context) -> None:
        await asyncio.sleep(0.001)

    error = await h.error(await h.start(h.define(flow, strict=True)), RunFailedError)
    assert error.error_type == ForeignAwaitError.__name__
    assert "replay.py:" in error.message


@scenario(2)
async def asyncio_gather_over_context_operations_is_an_error(h: Harness) -> None:
    """Context operations in a task that the context did not make are an error that names ctx.gather."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await asyncio.gather(ctx.step(h.note, "a"), ctx.step(h.note, "b"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error = await h.error(await h.start(flow), RunFailedError)
    assert error.error_type == WrongTaskError.__name__
    assert "ctx.gather" in error.message
    assert h.ledger == []


@scenario(2)
async def a_context_call_inside_a_step_is_an_error(h: Harness) -> None:
    """A context operation called from inside a step is an error."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        async def inner() -> None:
            await ctx.step(h.note, "a")

        await ctx.step(inner)

    error = await h.error(await h.start(flow), RunFailedError)
    assert "WrongTaskError" in str(error)
    assert h.ledger == []


@scenario(2, CRASH)
async def a_new_operation_at_the_end_is_no_mismatch(h: Harness) -> None:
    """Code that was only extended behind what the journal holds goes on."""

    async def before(ctx: Context) -> str:
        await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")
        return "short"

    async def after(ctx: Context) -> str:
        await ctx.step(h.note, "a")
        await ctx.wait_for_approval("go?")
        return await ctx.step(h.note, "b")

    flow = h.define(before)
    execution = await h.start(flow)
    await h.crash(h.client)
    h.define(after, name=flow.name)
    h.client = await h.connect()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.result(execution) == "b"


@scenario(2)
async def step_results_reach_branches_that_wait_in_order(h: Harness) -> None:
    """A branch whose step ended first goes on first, although another branch began first."""
    first, second, order = Latch(), Latch(), list[str]()

    @h.workflow
    async def flow(ctx: Context) -> None:
        async def branch(name: str, latch: Latch) -> None:
            await ctx.step(latch.step)
            await ctx.step(h.note, name)

        await ctx.gather(branch("first", first), branch("second", second))

    execution = await h.start(flow)
    await first.reached.wait()
    await second.reached.wait()
    second.opened.set()
    await h.settle()
    first.opened.set()
    await h.result(execution)
    order += h.ledger
    assert order == ["second", "first"]
