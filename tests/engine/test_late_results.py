"""Steps that nobody waits for any more, and answers about a step that was interrupted."""

import asyncio
import threading
from typing import cast

from osprotocol import Context, Timeout, current_step, step, testing, workflow
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol.errors import StepTimedOutError

LONG_S = 30.0


async def test_the_late_result_of_a_timed_out_step_is_told_and_not_used() -> None:
    """A thread that ends after its step's timeout leaves an event, not a second outcome of the step."""
    finish = threading.Event()

    @step(timeout=Timeout(ms=1_000))
    def overlong() -> str:
        finish.wait(LONG_S)
        return "late"

    @workflow(name="impatient")
    async def impatient(ctx: Context) -> str:
        try:
            return await ctx.step(overlong)
        except StepTimedOutError:
            await ctx.wait_for_approval("Go on without it?")
            return "timed out"

    async with testing.connect(autojump=False) as client:
        execution = await impatient.start()
        await client.clock.settle()
        await client.clock.advance(ms=1_000)
        types: list[str] = []
        async for event in execution.events():
            types.append(event.type)
            if event.type == "request.opened":
                finish.set()
            elif event.type == "attempt.late-result":
                break
        assert "step.completed" not in types
        await client.crash()
        async with testing.connect(beside=client) as heir:
            replayed = await heir.get(execution.id, impatient)
            await replayed.approve()
            assert await replayed.result == "timed out"


async def test_an_interrupted_step_may_be_answered_with_an_action() -> None:
    """`{"action": "retry"}` runs an interrupted at-most-once step again, as the plain word does."""
    started: list[int] = []
    hang = threading.Event()

    @step(at_most_once=True)
    def charge() -> str:
        started.append(current_step().attempt)
        if len(started) == 1:
            hang.wait(LONG_S)
        return "charged"

    @workflow(name="checkout")
    async def checkout(ctx: Context) -> str:
        return await ctx.step(charge)

    async with testing.connect(autojump=False) as client:
        execution = await checkout.start()
        async for event in execution.events():
            if event.type == "step.started":
                break
        await client.crash()
        hang.set()
        async with testing.connect(beside=client) as heir:
            again = await heir.get(execution.id, checkout)
            async for event in again.events():
                if event.type == "request.opened":
                    await again.respond({"action": "retry"})
            assert await again.result == "charged"


async def test_a_step_that_still_waited_for_a_thread_when_it_was_given_up_never_begins() -> None:
    """With all threads busy a step waits for one; by the time there is one its run may have ended, or be elsewhere."""
    finish, started, begun = threading.Event(), threading.Event(), list[str]()

    @step
    def busy(name: str) -> None:
        begun.append(name)
        started.set()
        finish.wait(LONG_S)

    @workflow(name="crowded")
    async def crowded(ctx: Context) -> None:
        await ctx.gather(ctx.step(busy, "first"), ctx.step(busy, "second"))

    async with testing.connect(concurrency=1) as client:
        execution = await crowded.start()
        await asyncio.to_thread(started.wait, LONG_S)
        await execution.cancel(graceful=False)
        await client.clock.settle()
        finish.set()
        worker = cast("EmbeddedEngine", client._engine).worker
        await asyncio.to_thread(worker.executor.submit(lambda: None).result)
    assert begun == ["first"]
