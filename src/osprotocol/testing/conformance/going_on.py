"""Section 7: what a new attempt keeps, retry() and fork()."""

import contextlib

from osprotocol.context import Context
from osprotocol.errors import (
    InvalidOptionError,
    InvalidTransitionError,
    RunCancelledError,
    RunFailedError,
    StepFailedError,
)
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.testing.conformance.harness import Harness, Shaky, refused
from osprotocol.testing.conformance.scenario import scenario


@scenario(7)
async def a_new_attempt_keeps_completed_steps(h: Harness) -> None:
    """A new attempt keeps every step that was completed before the one that failed, and runs that again."""
    shaky = Shaky(h, 1)

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.step(h.note, "a")
        await ctx.step(shaky.step, "b")
        return await ctx.step(h.note, "c")

    execution = await h.start(flow, options=RunOptions(retry=Retry(attempts=1, delay_ms=0)))
    assert await h.result(execution) == "c"
    assert h.ledger == ["a", "b", "b", "c"]


@scenario(7)
async def siblings_of_the_failure_stay(h: Harness) -> None:
    """Steps of other branches that ran beside the failed one are kept."""
    shaky = Shaky(h, 1)

    @h.workflow
    async def flow(ctx: Context) -> None:
        async def branch(name: str) -> None:
            await ctx.step(h.note, name)
            await ctx.step(h.note, f"{name} more")

        await ctx.gather(branch("a"), branch("b"))
        await ctx.gather(ctx.step(h.note, "c"), ctx.step(shaky.step, "x"), ctx.step(h.note, "d"))

    execution = await h.start(flow, options=RunOptions(retry=Retry(attempts=1, delay_ms=0)))
    await h.result(execution)
    assert sorted(h.ledger) == ["a", "a more", "b", "b more", "c", "d", "x", "x"]


@scenario(7)
async def what_was_decided_after_the_failure_is_forgotten(h: Harness) -> None:
    """Steps that the code asked for after it had seen the failure run again in the new attempt."""
    shaky = Shaky(h, 1)

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.step(h.note, "before")
        try:
            return await ctx.step(shaky.step, "x")
        except StepFailedError:
            await ctx.step(h.note, "handled")
            raise

    execution = await h.start(flow, options=RunOptions(retry=Retry(attempts=1, delay_ms=0)))
    assert await h.result(execution) == "x"
    assert h.ledger == ["before", "x", "handled", "x"]


@scenario(7)
async def the_failure_is_found_in_the_chain_of_causes(h: Harness) -> None:
    """A failed step is forgotten also when the code wraps its error in one of its own, or in a group."""

    @h.workflow
    async def flow(ctx: Context, how: str) -> str:
        try:
            return await ctx.step(shaky.step, "x")
        except StepFailedError as error:
            if how == "cause":
                raise RuntimeError("wrapped") from error
            raise ExceptionGroup("several", [ValueError("other"), error]) from None

    for how in ("cause", "group"):
        shaky = Shaky(h, 1)
        execution = await h.start(flow, how, RunOptions(retry=Retry(attempts=1, delay_ms=0)))
        assert await h.result(execution) == "x", how


@scenario(7)
async def an_exception_of_plain_code_forgets_nothing(h: Harness) -> None:
    """An exception of plain code forgets nothing: a handled failure before it stays what it is."""
    shaky = Shaky(h, 1)

    @h.workflow
    async def flow(ctx: Context) -> str:
        with contextlib.suppress(StepFailedError):
            await ctx.step(shaky.step, "x")
        await ctx.step(h.note, "a")
        if ctx.attempt == 1:
            raise ValueError("plain")
        return "end"

    execution = await h.start(flow, options=RunOptions(retry=Retry(attempts=1, delay_ms=0)))
    assert await h.result(execution) == "end"
    assert h.ledger == ["x", "a"]


@scenario(7)
async def granted_answers_stay(h: Harness) -> None:
    """An approval that was granted after the failure was seen is not asked for again."""
    shaky = Shaky(h, 2)

    @h.workflow
    async def flow(ctx: Context) -> str:
        try:
            return await ctx.step(shaky.step, "x")
        except StepFailedError:
            approval = await ctx.wait_for_approval("use the backup?")
            assert approval.approved
            raise

    execution = await h.start(flow, options=RunOptions(retry=Retry(attempts=2, delay_ms=0)))
    await execution.approve()
    assert await h.result(execution) == "x"
    assert (await h.types(execution)).count("request.opened") == 1


@scenario(7)
async def retry_goes_on_from_a_failed_run(h: Harness) -> None:
    """execution.retry starts a new run that keeps the completed steps and names its origin."""
    shaky = Shaky(h, 1)

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.step(h.note, "a")
        return await ctx.step(shaky.step, "x")

    failed = await h.start(flow)
    await h.error(failed, RunFailedError)
    again = await failed.retry()
    assert await h.result(again) == "x"
    assert h.ledger == ["a", "x", "x"]
    assert again.id != failed.id
    assert again.snapshot.origin is not None
    assert (again.snapshot.origin.kind, again.snapshot.origin.run_id) == ("retry", failed.id)
    assert await h.status(failed) is RunStatus.FAILED


@scenario(7)
async def retry_goes_on_from_a_cancelled_run(h: Harness) -> None:
    """execution.retry of a cancelled run without cleanup steps keeps the completed steps and asks anew."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.step(h.note, "a")
        return (await ctx.wait_for_approval("go?")).outcome

    first = await h.start(flow)
    await first.cancel()
    await h.error(first, RunCancelledError)
    again = await first.retry()
    assert await h.status(again) is RunStatus.AWAITING
    await again.approve()
    assert await h.result(again) == "approved"
    assert h.ledger == ["a"]


@scenario(7)
async def retry_after_cleanup_steps_is_refused(h: Harness) -> None:
    """execution.retry of a cancelled run whose cleanup steps ran is refused, with fork as the way."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(h.note, "a")
        try:
            await ctx.wait_for_approval("go?")
        finally:
            await ctx.step(h.note, "undo")

    first = await h.start(flow)
    await first.cancel()
    await h.error(first, RunCancelledError)
    with refused(InvalidTransitionError) as caught:
        await first.retry()
    assert "fork" in str(caught.error)


@scenario(7)
async def retry_of_a_run_that_has_not_failed_is_refused(h: Harness) -> None:
    """execution.retry of a completed or a waiting run is refused."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    with refused(InvalidTransitionError):
        await execution.retry()
    await execution.approve()
    await h.result(execution)
    with refused(InvalidTransitionError):
        await execution.retry()


@scenario(7)
async def fork_takes_over_the_journal_up_to_a_step(h: Harness) -> None:
    """execution.fork starts a new run that takes over the journal up to that step, and names its origin."""

    async def one(what: str) -> str:
        h.ledger.append(what)
        return what

    async def two(what: str) -> str:
        h.ledger.append(what)
        return what

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(one, "1") + await ctx.step(two, "2")

    first = await h.start(flow)
    assert await h.result(first) == "12"
    fork = await first.fork(after_step="one")
    assert await h.result(fork) == "12"
    assert h.ledger == ["1", "2", "2"]
    assert fork.snapshot.origin is not None
    assert (fork.snapshot.origin.kind, fork.snapshot.origin.after_step) == ("fork", "one")
    with refused(InvalidOptionError):
        await first.fork(after_step="three")
