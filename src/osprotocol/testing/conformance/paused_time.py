"""Section 4: clocks and deadlines of a paused run."""

from osprotocol.context import Context
from osprotocol.errors import RequestClosedError
from osprotocol.protocol.approval import ApprovalConfig
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.protocol.timeout import Timeout
from osprotocol.testing.conformance.harness import CLOCK, CRASH, Harness, refused
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import step


@scenario(4, CLOCK)
async def a_paused_sleep_stands_still(h: Harness) -> None:
    """A sleep is prolonged by the time that the run was paused."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=10_000)

    execution = await h.start(flow)
    await h.advance(ms=4_000)
    await execution.pause()
    await h.advance(ms=60_000)
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.resume()
    await h.advance(ms=5_999)
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    await h.advance(ms=1)
    assert await h.status(execution) is RunStatus.COMPLETED


@scenario(4, CLOCK, CRASH)
async def a_paused_sleep_stands_still_over_a_crash(h: Harness) -> None:
    """A sleep is prolonged by a pause that a crash and a restart fall into."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=10_000)

    execution = await h.start(flow)
    await h.advance(ms=4_000)
    await execution.pause()
    await h.advance(ms=30_000)
    await h.restart()
    await h.advance(ms=30_000)
    execution = await h.again(execution)
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.resume()
    await h.advance(ms=5_999)
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    await h.advance(ms=1)
    assert await h.status(execution) is RunStatus.COMPLETED


@scenario(4, CLOCK)
async def two_pauses_add_up(h: Harness) -> None:
    """A sleep is prolonged by the sum of two pauses."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=10_000)

    execution = await h.start(flow)
    for _ in range(2):
        await h.advance(ms=1_000)
        await execution.pause()
        await h.advance(ms=20_000)
        await execution.resume()
    await h.advance(ms=7_999)
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    await h.advance(ms=1)
    assert await h.status(execution) is RunStatus.COMPLETED


@scenario(4, CLOCK)
async def the_timeout_clock_stands_still_while_paused(h: Harness) -> None:
    """Time in which a run is paused does not count for its timeout."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=60_000)

    execution = await h.start(flow, options=RunOptions(timeout=Timeout(ms=10_000)))
    await h.advance(ms=5_000)
    await execution.pause()
    await h.advance(ms=50_000)
    await execution.resume()
    await h.advance(ms=4_999)
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    await h.advance(ms=1)
    assert await h.status(execution) is RunStatus.FAILED


@scenario(4, CLOCK)
async def a_retry_delay_stands_still_while_paused(h: Harness) -> None:
    """The delay before a run's retry is prolonged by a pause, and no attempt starts in it."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        if ctx.attempt == 1:
            raise ValueError("first")
        return "second"

    execution = await h.start(flow, options=RunOptions(retry=Retry(attempts=1, delay_ms=10_000)))
    await h.advance(ms=4_000)
    await execution.pause()
    await h.advance(ms=60_000)
    await execution.refresh()
    assert execution.attempt == 1
    await execution.resume()
    await h.advance(ms=5_999)
    assert await h.status(execution) is RunStatus.IN_PROGRESS
    await h.advance(ms=1)
    assert await h.result(execution) == "second"


@scenario(4, CLOCK)
async def a_step_retry_delay_stands_still_while_paused(h: Harness) -> None:
    """The delay before a step's retry is prolonged by a pause, and the step is not tried in it."""
    tries: list[int] = []

    async def shaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("first")
        return "second"

    tried = step(retry=Retry(attempts=1, delay_ms=10_000))(shaky)

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(tried)

    execution = await h.start(flow)
    await h.advance(ms=4_000)
    await execution.pause()
    await h.advance(ms=60_000)
    assert len(tries) == 1
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.resume()
    await h.advance(ms=5_999)
    assert len(tries) == 1
    await h.advance(ms=1)
    assert await h.result(execution) == "second"


@scenario(4, CLOCK)
async def a_pause_does_not_stop_the_expiry_of_a_request(h: Harness) -> None:
    """A request expires at its deadline although the run is paused, and the code goes on only after resume."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        approval = await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000))
        return await ctx.step(h.note, approval.outcome)

    execution = await h.start(flow)
    await execution.pause()
    await h.advance(ms=5_000)
    await execution.refresh()
    assert execution.requests == []
    assert await h.status(execution) is RunStatus.AWAITING
    assert h.ledger == []
    await execution.resume()
    assert await h.result(execution) == "expired"


@scenario(4, CLOCK)
async def an_expired_request_of_a_paused_run_takes_no_answer(h: Harness) -> None:
    """An answer after the deadline is refused as expired although the run is paused."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        return (await ctx.wait_for_approval("go?", ApprovalConfig(timeout_ms=5_000))).outcome

    execution = await h.start(flow)
    request = execution.requests[0]
    await execution.pause()
    await h.advance(ms=5_000)
    with refused(RequestClosedError) as caught:
        await execution.approve(request_id=request.id)
    assert caught.error.outcome == "expired"
    await execution.resume()
    assert await h.result(execution) == "expired"
