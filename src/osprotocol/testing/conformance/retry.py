"""Section 7: retries, what a new attempt keeps, retry() and fork()."""

from typing import Any

from osprotocol.context import Context, current_step
from osprotocol.errors import (
    RunFailedError,
    StepFailedError,
    TerminalError,
)
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunOptions
from osprotocol.testing.conformance.harness import CLOCK, CRASH, Harness, Shaky
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import step


@scenario(7, CLOCK)
async def attempts_is_the_number_of_retries(h: Harness) -> None:
    """Three retries mean up to four tries of a step, and StepFailedError tells how many there were."""
    shaky = Shaky(h, 9)
    tried = step(retry=Retry(attempts=3, delay_ms=10))(shaky.step)

    @h.workflow
    async def flow(ctx: Context) -> int:
        try:
            await ctx.step(tried)
        except StepFailedError as error:
            return error.attempts
        return 0

    execution = await h.start(flow)
    await h.advance(ms=100)
    assert await h.result(execution) == 4
    assert len(shaky.tries) == 4


@scenario(7, CLOCK)
async def run_attempts_are_retries_too(h: Harness) -> None:
    """Two retries of a run mean up to three attempts."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        raise ValueError(str(ctx.attempt))

    execution = await h.start(flow, options=RunOptions(retry=Retry(attempts=2, delay_ms=10)))
    await h.advance(ms=100)
    error = await h.error(execution, RunFailedError)
    assert (error.attempts, error.message) == (3, "3")


@scenario(7, CLOCK)
async def the_three_backoffs_of_a_step(h: Harness) -> None:
    """Delays of steps are none, linear and exponential as written, capped by max_delay_ms."""
    expected: list[tuple[Retry, list[int]]] = [
        (Retry(attempts=3, delay_ms=100), [100, 100, 100]),
        (Retry(attempts=3, delay_ms=100, backoff="linear"), [100, 200, 300]),
        (Retry(attempts=4, delay_ms=100, backoff="exponential"), [100, 200, 400, 800]),
        (Retry(attempts=4, delay_ms=100, backoff="exponential", max_delay_ms=300), [100, 200, 300, 300]),
    ]
    for retry, delays in expected:
        shaky = Shaky(h, 9)
        tried = step(retry=retry)(shaky.step)

        async def flow(ctx: Context, tried: Any = tried) -> None:
            await ctx.step(tried)

        execution = await h.start(h.define(_without_default(flow, tried)))
        await h.advance(ms=5_000)
        await h.error(execution, RunFailedError)
        assert shaky.gaps_ms == delays


def _without_default(flow: Any, tried: Any) -> Any:
    async def backoff(ctx: Context) -> None:
        await flow(ctx, tried)

    return backoff


@scenario(7, CLOCK)
async def the_three_backoffs_of_a_run(h: Harness) -> None:
    """Delays of runs are none, linear and exponential as written, capped by max_delay_ms."""
    for settings, delays in (
        ({"backoff": "none"}, [100, 100, 100]),
        ({"backoff": "linear"}, [100, 200, 300]),
        ({"backoff": "exponential"}, [100, 200, 400]),
        ({"backoff": "exponential", "max_delay_ms": 150}, [100, 150, 150]),
    ):
        shaky = Shaky(h, 9)

        async def flow(ctx: Context) -> None:
            await ctx.step(shaky.step)  # noqa: B023 - used up in this round

        retry = Retry(attempts=3, delay_ms=100, **settings)
        execution = await h.start(h.define(flow), options=RunOptions(retry=retry))
        await h.advance(ms=5_000)
        await h.error(execution, RunFailedError)
        assert shaky.gaps_ms == delays


@scenario(7, CLOCK)
async def jitter_adds_up_to_its_part(h: Harness) -> None:
    """Jitter adds at random, and never more than its part of the delay."""
    shaky = Shaky(h, 20)
    tried = step(retry=Retry(attempts=20, delay_ms=1_000, jitter=0.5))(shaky.step)

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(tried)

    execution = await h.start(flow)
    await h.advance(ms=40_000)
    await h.result(execution)
    assert all(1_000 <= gap <= 1_500 for gap in shaky.gaps_ms)
    assert len(set(shaky.gaps_ms)) > 1


@scenario(7)
async def a_terminal_error_ends_the_run(h: Harness) -> None:
    """A TerminalError from the code or from a step is not retried, by step or run."""
    shaky = Shaky(h, 9, TerminalError)
    tried = step(retry=Retry(attempts=5, delay_ms=0))(shaky.step)

    @h.workflow
    async def flow(ctx: Context, where: str) -> None:
        if where == "step":
            await ctx.step(tried)
        raise TerminalError("no")

    for where in ("code", "step"):
        execution = await h.start(flow, where, RunOptions(retry=Retry(attempts=5, delay_ms=0)))
        await h.error(execution, RunFailedError)
        assert execution.attempt == 1
    assert len(shaky.tries) == 1


@scenario(7)
async def should_retry_false_ends_the_run(h: Harness) -> None:
    """should_retry that says false ends the run after that attempt."""
    seen: list[str] = []

    def judge(error: Exception) -> bool:
        seen.append(str(error))
        return len(seen) < 2

    @h.workflow
    async def flow(ctx: Context) -> None:
        raise ValueError(str(ctx.attempt))

    retry = Retry(attempts=9, delay_ms=0, should_retry=judge)
    execution = await h.start(flow, options=RunOptions(retry=retry))
    error = await h.error(execution, RunFailedError)
    assert seen == ["1", "2"]
    assert error.attempts == 2


@scenario(7, CLOCK)
async def on_retry_comes_before_the_delay(h: Harness) -> None:
    """on_retry is called with error and number of the retry before the delay, for steps and for runs."""
    told: list[tuple[str, int, float]] = []
    begin = h.now().timestamp()

    def tell(error: Exception, n: int) -> None:
        told.append((str(error), n, h.now().timestamp() - begin))

    shaky = Shaky(h, 2)
    tried = step(retry=Retry(attempts=1, delay_ms=1_000, on_retry=tell))(shaky.step)

    @h.workflow
    async def flow(ctx: Context) -> str:
        return await ctx.step(tried)

    execution = await h.start(flow, options=RunOptions(retry=Retry(attempts=1, delay_ms=5_000, on_retry=tell)))
    await h.advance(ms=10_000)
    assert await h.result(execution) == "shaky"
    assert [(n, at) for _, n, at in told] == [(1, 0.0), (1, 1.0)]


@scenario(7, CLOCK, CRASH)
async def a_restart_does_not_start_counting_again(h: Harness) -> None:
    """Step retries are journaled: a crash in a retry delay neither repeats tries nor shortens the delay."""
    shaky = Shaky(h, 9)
    tried = step(retry=Retry(attempts=2, delay_ms=10_000))(shaky.step)

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(tried)

    execution = await h.start(flow)
    await h.advance(ms=4_000)
    await h.restart()
    await h.advance(ms=5_999)
    assert len(shaky.tries) == 1
    await h.advance(ms=1)
    await h.advance(ms=10_000)
    await h.error(await h.again(execution), RunFailedError)
    assert shaky.gaps_ms == [10_000, 10_000]


@scenario(7)
async def current_step_knows_its_try_and_its_key(h: Harness) -> None:
    """current_step gives the number of the try, and an idempotency key that is the same on every try."""
    seen: list[tuple[int, str]] = []

    async def work() -> None:
        seen.append((current_step().attempt, current_step().idempotency_key))
        if len(seen) < 3:
            raise ValueError("again")

    tried = step(retry=Retry(attempts=1, delay_ms=0))(work)

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(tried)

    await h.result(await h.start(flow, options=RunOptions(retry=Retry(attempts=1, delay_ms=0))))
    assert [number for number, _ in seen] == [1, 2, 1]
    assert len({key for _, key in seen}) == 1
