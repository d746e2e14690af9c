"""Section 6: timeouts of runs and steps, three actions, two clocks."""

import asyncio
from datetime import timedelta

from osprotocol.context import Context, current_step
from osprotocol.errors import RunCancelledError, RunFailedError, RunTimedOutError, StepTimedOutError
from osprotocol.protocol.cancel import Cancel
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.protocol.timeout import Timeout
from osprotocol.testing.conformance.harness import CLOCK, CRASH, Harness, Latch
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import step


def _limit(ms: int, **settings: object) -> RunOptions:
    return RunOptions(timeout=Timeout(ms, **settings))  # type: ignore[arg-type]


@scenario(6, CLOCK)
async def fail_ends_the_run_failed(h: Harness) -> None:
    """A run that takes longer than its timeout ends failed with RunTimedOutError."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=60_000)

    execution = await h.start(flow, options=_limit(5_000))
    await h.advance(ms=4_999)
    assert not execution.status.is_final
    await h.advance(ms=1)
    error = await h.error(execution, RunTimedOutError)
    assert error.timeout_ms == 5_000
    assert execution.status is RunStatus.FAILED


@scenario(6, CLOCK)
async def the_time_left_is_told(h: Harness) -> None:
    """A snapshot tells when the timeout passes, or what is left of it while its clock stands still."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=2_000)
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow, options=_limit(5_000))
    asleep, began = execution.snapshot, h.now()
    assert asleep.timeout_at is not None
    assert abs(asleep.timeout_at - began - timedelta(seconds=5)) < timedelta(seconds=1)
    assert asleep.timeout_left_ms is None
    await h.advance(ms=4_000)
    await h.status(execution)
    assert execution.snapshot.timeout_at is None
    assert abs((execution.snapshot.timeout_left_ms or 0) - 3_000) < 1_000
    await execution.approve()
    await h.result(execution)
    assert (execution.snapshot.timeout_at, execution.snapshot.timeout_left_ms) == (None, None)


@scenario(6, CLOCK)
async def a_timeout_ends_a_step_that_runs(h: Harness) -> None:
    """The timeout of a run ends an attempt whose step is still at work."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(latch.step)

    execution = await h.start(flow, options=_limit(5_000))
    await latch.reached.wait()
    await h.advance(ms=5_000)
    await h.error(execution, RunTimedOutError)
    assert latch.passes == 0


@scenario(6, CLOCK)
async def a_timed_out_attempt_is_retried(h: Harness) -> None:
    """After a timeout retries apply, and the clock restarts with each attempt."""

    @h.workflow
    async def flow(ctx: Context) -> int:
        if ctx.attempt < 3:
            await ctx.sleep(ms=60_000)
        return ctx.attempt

    options = RunOptions(timeout=Timeout(ms=5_000), retry=Retry(attempts=2, delay_ms=1_000))
    execution = await h.start(flow, options=options)
    await h.advance(ms=5_000)
    await h.advance(ms=1_000)
    await execution.refresh()
    assert execution.attempt == 2
    await h.advance(ms=4_999)
    assert execution.attempt == 2
    await h.advance(ms=1_001)
    assert await h.result(execution) == 3


@scenario(6, CLOCK)
async def retry_delays_do_not_count(h: Harness) -> None:
    """The delay before a retry does not count on the active clock."""

    @h.workflow
    async def flow(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ValueError("first")
        await ctx.sleep(ms=4_000)
        return ctx.attempt

    options = RunOptions(timeout=Timeout(ms=5_000), retry=Retry(attempts=1, delay_ms=60_000))
    execution = await h.start(flow, options=options)
    await h.advance(ms=64_000)
    assert await h.result(execution) == 2


@scenario(6, CLOCK)
async def waiting_for_people_does_not_count(h: Harness) -> None:
    """Time in which people are waited for does not count on the active clock, before and after does."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=3_000)
        await ctx.wait_for_approval("go?")
        await ctx.sleep(ms=3_000)

    execution = await h.start(flow, options=_limit(5_000))
    await h.advance(ms=3_000)
    await h.advance(ms=100_000)
    assert await h.status(execution) is RunStatus.AWAITING
    await execution.approve()
    await h.settle()
    await h.advance(ms=1_999)
    assert not execution.status.is_final
    await h.advance(ms=1)
    await h.error(execution, RunTimedOutError)


@scenario(6, CLOCK)
async def the_wall_clock_counts_waiting_for_people(h: Harness) -> None:
    """With clock wall the time in which people are waited for counts too."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow, options=_limit(5_000, clock="wall"))
    await h.advance(ms=4_999)
    assert await h.status(execution) is RunStatus.AWAITING
    await h.advance(ms=1)
    await h.error(execution, RunTimedOutError)


@scenario(6, CLOCK)
async def the_wall_clock_counts_a_pause(h: Harness) -> None:
    """With clock wall the time of a pause counts too: after it the timeout has passed."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=60_000)

    execution = await h.start(flow, options=_limit(5_000, clock="wall"))
    await h.advance(ms=1_000)
    await execution.pause()
    await h.advance(ms=10_000)
    if not execution.status.is_final:
        await execution.resume()
    await h.error(execution, RunTimedOutError)


@scenario(6, CLOCK, CRASH)
async def time_after_the_workers_death_does_not_count(h: Harness) -> None:
    """Time after a worker died does not count on the active clock."""
    latch = Latch()

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(latch.step)

    execution = await h.start(flow, options=_limit(5_000))
    await latch.reached.wait()
    await h.crash(h.client)
    await h.advance(ms=60_000)
    latch.reached.clear()
    h.client = await h.connect()
    await latch.reached.wait()
    latch.opened.set()
    assert await h.result(await h.again(execution)) == "done"


@scenario(6, CLOCK, CRASH)
async def the_clock_survives_a_restart(h: Harness) -> None:
    """What an attempt had used of its time before a restart counts after it."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=3_000)
        await ctx.wait_for_approval("go?")
        await ctx.sleep(ms=60_000)

    execution = await h.start(flow, options=_limit(5_000))
    await h.advance(ms=3_000)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.settle()
    await h.advance(ms=1_999)
    assert not execution.status.is_final
    await h.advance(ms=1)
    await h.error(execution, RunTimedOutError)


@scenario(6, CLOCK)
async def cancel_goes_through_the_whole_flow(h: Harness) -> None:
    """With on_timeout cancel the run is cancelled, with its cleanup."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.sleep(ms=60_000)
        finally:
            await ctx.step(h.note, "cleanup")

    execution = await h.start(flow, options=_limit(5_000, on_timeout="cancel"))
    await h.advance(ms=5_000)
    await h.error(execution, RunCancelledError)
    assert h.ledger == ["cleanup"]


@scenario(6, CLOCK)
async def a_vetoed_timeout_cancel_goes_on(h: Harness) -> None:
    """With on_timeout cancel and a veto the run goes on, once an attempt."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.sleep(ms=20_000)
        return "done"

    judged: list[int] = []

    def judge() -> bool:
        judged.append(1)
        return False

    options = RunOptions(timeout=Timeout(ms=5_000, on_timeout="cancel"), cancel=Cancel(before_cancel=judge))
    execution = await h.start(flow, options=options)
    await h.advance(ms=20_000)
    assert await h.result(execution) == "done"
    assert judged == [1]


@scenario(6, CLOCK)
async def continue_only_tells(h: Harness) -> None:
    """With on_timeout continue a log entry, an event and the callback come once an attempt, and the run goes on."""
    called: list[int] = []

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.sleep(ms=20_000)
        return "done"

    timeout = Timeout(ms=5_000, on_timeout="continue", on_timeout_callback=lambda: called.append(1))
    execution = await h.start(flow, options=RunOptions(timeout=timeout))
    await h.advance(ms=20_000)
    assert await h.result(execution) == "done"
    assert called == [1]
    assert (await h.types(execution)).count("run.timed-out") == 1
    assert any("timeout" in line for line in await h.log(execution))


@scenario(6, CLOCK)
async def the_callback_comes_with_fail_and_cancel_too(h: Harness) -> None:
    """on_timeout_callback is called once with on_timeout fail and with cancel."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.sleep(ms=60_000)

    for action in ("fail", "cancel"):
        called: list[int] = []
        timeout = Timeout(ms=5_000, on_timeout=action, on_timeout_callback=lambda: called.append(1))  # noqa: B023
        execution = await h.start(flow, options=RunOptions(timeout=timeout))
        await h.advance(ms=5_000)
        await h.settle()
        assert execution.status.is_final, action
        assert called == [1], action


@scenario(6, CLOCK)
async def a_later_result_is_kept_as_an_event(h: Harness) -> None:
    """The result of a step that ends after its attempt timed out is kept as the event attempt.late-result."""
    go = asyncio.Event()
    latch = Latch()
    loop = asyncio.get_running_loop()

    def work() -> str:
        loop.call_soon_threadsafe(latch.reached.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
        return "late"

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(work)

    execution = await h.start(flow, options=_limit(5_000))
    await latch.reached.wait()
    await h.advance(ms=5_000)
    await h.error(execution, RunTimedOutError)
    go.set()
    late: list[str] = []

    def is_late() -> bool:
        reading = asyncio.get_running_loop().create_task(h.types(execution))
        reading.add_done_callback(lambda task: late.extend(task.result()))
        return "attempt.late-result" in late

    await h.until(is_late)
    assert await h.status(execution) is RunStatus.FAILED


@scenario(6, CLOCK)
async def a_steps_own_timeout_fails_the_step(h: Harness) -> None:
    """A step that takes longer than its own timeout fails with StepTimedOutError, and its event is set."""
    latch, seen = Latch(), list[bool]()

    async def work() -> str:
        current = current_step()
        try:
            return await latch.step()
        finally:
            seen.append(current.cancelled.is_set())

    slow = step(timeout=Timeout(ms=2_000))(work)

    @h.workflow
    async def flow(ctx: Context) -> str:
        try:
            return await ctx.step(slow)
        except StepTimedOutError as error:
            return f"{error.step} {error.timeout_ms}"

    execution = await h.start(flow)
    await latch.reached.wait()
    await h.advance(ms=2_000)
    assert await h.result(execution) == "work 2000"
    assert seen == [True]


@scenario(6, CLOCK)
async def each_try_of_a_step_has_its_own_timeout(h: Harness) -> None:
    """A step that timed out is tried again, with the whole time."""
    latch, tries = Latch(), list[int]()

    async def work() -> int:
        tries.append(1)
        if len(tries) == 1:
            await latch.step()
        return len(tries)

    slow = step(timeout=Timeout(ms=2_000), retry=Retry(attempts=1, delay_ms=0))(work)

    @h.workflow
    async def flow(ctx: Context) -> int:
        return await ctx.step(slow)

    execution = await h.start(flow)
    await latch.reached.wait()
    await h.advance(ms=2_000)
    assert await h.result(execution) == 2


@scenario(6, CLOCK, CRASH)
async def a_step_timeout_raises_alike_on_replay(h: Harness) -> None:
    """A step that timed out raises StepTimedOutError on replay too, and does not run again."""
    latch, seen = Latch(), list[str]()

    async def work() -> str:
        seen.append("ran")
        return await latch.step()

    slow = step(timeout=Timeout(ms=2_000))(work)

    @h.workflow
    async def flow(ctx: Context) -> str:
        try:
            await ctx.step(slow)
        except StepTimedOutError:
            await ctx.wait_for_approval("go?")
            return "timed out"
        return "done"

    execution = await h.start(flow)
    await latch.reached.wait()
    await h.advance(ms=2_000)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    assert await h.result(execution) == "timed out"
    assert seen == ["ran"]


@scenario(6, CLOCK)
async def a_result_before_the_deadline_wins(h: Harness) -> None:
    """A run that is done one millisecond before its timeout is completed, and stays so."""

    @h.workflow
    async def flow(ctx: Context) -> str:
        await ctx.sleep(ms=4_999)
        return "done"

    execution = await h.start(flow, options=_limit(5_000))
    await h.advance(ms=60_000)
    assert await h.result(execution) == "done"


@scenario(6, CLOCK)
async def several_timeouts_of_tries_are_no_timeout_of_the_run(h: Harness) -> None:
    """An error named TimeoutError that the code raises itself is a plain failure."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        raise TimeoutError("mine")

    error = await h.error(await h.start(flow, options=_limit(5_000)), RunFailedError)
    assert not isinstance(error, RunTimedOutError)
