"""Section 4: pause and resume."""

import asyncio

from osprotocol.context import Context
from osprotocol.errors import InvalidTransitionError
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunStatus
from osprotocol.testing.conformance.harness import CRASH, Harness, Latch, refused
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import step


@scenario(4)
async def a_running_step_finishes_before_a_pause_is_settled(h: Harness) -> None:
    """While a step still runs, waiting_on shows the pause with settled false, and the run is in-progress."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        first = await ctx.step(latch.step)
        return await ctx.step(h.note, first)

    execution = await h.start(flow)
    await latch.reached.wait()
    await execution.pause("lunch")
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    assert [(wait.kind, wait.settled, wait.prompt) for wait in execution.waiting_on] == [("paused", False, "lunch")]
    latch.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [(wait.kind, wait.settled) for wait in execution.waiting_on] == [("paused", True)]
    assert h.ledger == []
    await execution.resume()
    assert await h.result(execution) == "done"
    assert latch.passes == 1


@scenario(4)
async def a_result_that_came_while_pausing_is_kept(h: Harness) -> None:
    """The result of a step that finished after the pause is in the journal while the run is paused."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(latch.step)

    execution = await h.start(flow)
    await latch.reached.wait()
    await execution.pause()
    latch.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING
    (record,) = await execution.steps()
    assert (record.status, record.result) == ("completed", "done")


@scenario(4)
async def a_pause_of_a_parked_run_is_settled_at_once(h: Harness) -> None:
    """The pause of a run that waits for a person is settled when pause returns."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await execution.pause()
    await execution.refresh()
    assert [(wait.kind, wait.settled) for wait in execution.waiting_on if wait.kind == "paused"] == [("paused", True)]


@scenario(4)
async def a_pause_settles_when_every_branch_is_at_a_boundary(h: Harness) -> None:
    """With two branches at work a pause settles after the second step, and neither branch goes on."""
    first, second = Latch(), Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        async def branch(latch: Latch) -> None:
            await ctx.step(h.note, await ctx.step(latch.step))

        await ctx.gather(branch(first), branch(second))

    execution = await h.start(flow)
    await first.reached.wait()
    await second.reached.wait()
    await execution.pause()
    first.opened.set()
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    assert not execution.waiting_on[0].settled
    second.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING
    assert h.ledger == []
    await execution.resume()
    await h.result(execution)
    assert h.ledger == ["done", "done"]


@scenario(4)
async def a_request_can_be_answered_while_paused(h: Harness) -> None:
    """A request of a paused run can be answered; the code goes on after resume."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        approval = await ctx.wait_for_approval("go?")
        return await ctx.step(h.note, approval.outcome)

    execution = await h.start(flow)
    await execution.pause()
    await execution.approve()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [wait.kind for wait in execution.waiting_on] == ["paused"]
    assert h.ledger == []
    await execution.resume()
    assert await h.result(execution) == "approved"


@scenario(4)
async def resume_never_answers_a_request(h: Harness) -> None:
    """After resume the request of a run is as open as before."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.wait_for_approval("go?")).outcome

    execution = await h.start(flow)
    await execution.pause()
    await execution.resume()
    assert await h.status(execution) is RunStatus.AWAITING
    assert [request.status for request in execution.requests] == ["open"]
    await execution.reject()
    assert await h.result(execution) == "rejected"


@scenario(4)
async def pause_when_paused_is_refused(h: Harness) -> None:
    """A second pause raises InvalidTransitionError, which is HTTP 409."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await execution.pause()
    with refused(InvalidTransitionError) as caught:
        await execution.pause()
    assert caught.error.http_status == 409


@scenario(4)
async def pause_when_pausing_is_refused(h: Harness) -> None:
    """A second pause while the first is not settled raises InvalidTransitionError."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(latch.step)

    execution = await h.start(flow)
    await latch.reached.wait()
    await execution.pause()
    with refused(InvalidTransitionError):
        await execution.pause()
    latch.opened.set()


@scenario(4)
async def resume_when_not_paused_is_refused(h: Harness) -> None:
    """Resume of a run that only waits for a person raises InvalidTransitionError, and answers nothing."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    with refused(InvalidTransitionError):
        await execution.resume()
    assert len(execution.requests) == 1


@scenario(4)
async def resume_before_a_pause_settles_lets_the_run_go_on(h: Harness) -> None:
    """A pause that is taken back while a step still runs leaves no trace in what the run does."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(h.note, await ctx.step(latch.step))

    execution = await h.start(flow)
    await latch.reached.wait()
    await execution.pause()
    await execution.resume()
    latch.opened.set()
    assert await h.result(execution) == "done"


@scenario(4)
async def a_step_retry_does_not_start_after_a_pause(h: Harness) -> None:
    """No further try of a step starts after a pause, not even of one without a delay."""
    reached, go, tries = asyncio.Event(), asyncio.Event(), list[int]()

    async def shaky() -> str:
        tries.append(1)
        if len(tries) > 1:
            return "second"
        reached.set()
        await go.wait()
        raise ValueError("first")

    tried = step(retry=Retry(attempts=1, delay_ms=0))(shaky)

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(tried)

    execution = await h.start(flow)
    await reached.wait()
    await execution.pause()
    go.set()
    assert await h.status(execution) is RunStatus.AWAITING
    assert len(tries) == 1
    await execution.resume()
    assert await h.result(execution) == "second"


@scenario(4, CRASH)
async def a_pause_survives_a_crash(h: Harness) -> None:
    """A paused run stays paused when its worker dies and another comes."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(latch.step)

    execution = await h.start(flow)
    await latch.reached.wait()
    latch.reached.clear()
    await execution.pause()
    await h.restart()
    execution = await h.again(execution)
    assert await h.status(execution) is RunStatus.AWAITING
    assert not latch.reached.is_set()
    await execution.resume()
    await latch.reached.wait()
    latch.opened.set()
    assert await h.result(execution) == "done"


@scenario(4)
async def a_child_follows_its_parents_pause(h: Harness) -> None:
    """A child run is paused and resumed with its parent."""
    latch = Latch()

    @h.workflow
    async def child(ctx: Context) -> str:
        return await ctx.step(h.note, await ctx.step(latch.step))

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.run(child)

    execution = await h.start(flow)
    await latch.reached.wait()
    await execution.pause()
    latch.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING
    (below,) = (await h.client.list(parent=execution.id)).items
    assert [wait.kind for wait in below.waiting_on] == ["paused"]
    assert h.ledger == []
    await execution.resume()
    assert await h.result(execution) == "done"


@scenario(4)
async def a_child_that_was_paused_itself_stays_paused(h: Harness) -> None:
    """Resume of a parent does not resume a child that somebody paused by itself."""

    @h.workflow
    async def child(ctx: Context) -> str:
        return (await ctx.wait_for_approval("go?")).outcome

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.run(child)

    execution = await h.start(flow)
    below = await h.client.get((await h.client.list(parent=execution.id)).items[0].id)
    await below.pause(by="mia")
    await execution.pause()
    await execution.resume()
    await h.settle()
    await below.refresh()
    assert [wait.kind for wait in below.waiting_on if wait.kind == "paused"] == ["paused"]
    await below.resume()
    await below.approve()
    assert await h.result(execution) == "approved"


@scenario(4)
async def code_does_not_end_a_run_while_it_is_paused(h: Harness) -> None:
    """A run whose last step finishes after the pause completes only after resume."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(latch.step)

    execution = await h.start(flow)
    await latch.reached.wait()
    await execution.pause()
    latch.opened.set()
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.resume()
    assert await h.result(execution) == "done"
