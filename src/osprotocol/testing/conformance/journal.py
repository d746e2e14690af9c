"""Section 2: what is committed stays, and what a step gives is what it gives again."""

import threading
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, SecretStr

from osprotocol.context import Context, current_step
from osprotocol.errors import InvalidValueError, RunFailedError, StepFailedError
from osprotocol.protocol.retry import Retry
from osprotocol.protocol.run import RunStatus
from osprotocol.testing.conformance.harness import CLOCK, CRASH, Harness, Latch
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import step


class Draft(BaseModel):
    """A typed result."""

    title: str
    price: Decimal


@dataclass
class Pair:
    """A typed result."""

    left: int
    right: tuple[int, ...]


class OutOfStock(Exception):
    """An error of the shop."""


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


@scenario(2, CRASH)
async def a_step_gives_on_replay_what_it_gave_first(h: Harness) -> None:
    """A typed result is the same value of the same type on the first pass and on replay."""
    seen: list[Any] = []

    async def draft() -> Draft:
        return Draft(title="x", price=Decimal("1.10"))

    def pair() -> Pair:
        return Pair(1, (2, 3))

    @h.workflow
    async def flow(ctx: Context) -> None:
        seen.append((await ctx.step(draft), await ctx.step(pair)))
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert len(seen) >= 2
    assert all(one == (Draft(title="x", price=Decimal("1.10")), Pair(1, (2, 3))) for one in seen)


@scenario(2)
async def an_untyped_result_is_plain_json_on_the_first_pass_too(h: Harness) -> None:
    """What a step without a declared type returns is what JSON gives back, at once."""

    async def give():  # type: ignore[no-untyped-def]
        return {"a": (1, 2)}

    @h.workflow
    async def flow(ctx: Context) -> bool:
        return bool(await ctx.step(give) == {"a": [1, 2]})

    assert await h.result(await h.start(flow)) is True


@scenario(2)
async def values_that_do_not_survive_json_are_refused_with_their_path(h: Harness) -> None:
    """NaN, infinity, keys that are no text and secrets are refused, and the error names where they are."""
    bad: dict[str, Any] = {
        "nan": {"a": [1.0, float("nan")]},
        "infinity": {"a": [1.0, float("inf")]},
        "keys": {"a": [0, {1: "x"}]},
        "secret": {"a": [0, SecretStr("x")]},
        "object": {"a": [0, object()]},
    }

    async def give(name: str):  # type: ignore[no-untyped-def]
        return bad[name]

    @h.workflow
    async def flow(ctx: Context, name: str) -> None:
        await ctx.step(give, name)

    for name in bad:
        error = await h.error(await h.start(flow, name), RunFailedError)
        assert "$.a[1]" in str(error), name


@scenario(2)
async def a_typed_result_that_does_not_survive_is_refused(h: Harness) -> None:
    """A typed result with a NaN is refused with its path, and not retried."""

    async def give() -> dict[str, float]:
        h.ledger.append("try")
        return {"x": float("nan")}

    tried = step(retry=Retry(attempts=3, delay_ms=0))(give)

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(tried)

    error = await h.error(await h.start(flow), RunFailedError)
    assert "$.x" in str(error)
    assert h.ledger == ["try"]


@scenario(2)
async def a_secret_is_refused_as_an_input(h: Harness) -> None:
    """An input with a secret is refused when the run is created."""

    @h.workflow
    async def flow(ctx: Context, value: SecretStr) -> None: ...

    try:
        h.client.create_run(flow, SecretStr("hush"))
    except InvalidValueError as error:
        assert "hush" not in str(error)
    else:
        raise AssertionError("a secret was accepted")


@scenario(2)
async def a_failed_step_raises_step_failed(h: Harness) -> None:
    """A failed step raises StepFailedError with step, error type, message and attempts."""
    seen: list[tuple[str, str, str, int]] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.step(h.fail, "lost")
        except StepFailedError as error:
            seen.append((error.step, error.error_type, error.message, error.attempts))

    await h.result(await h.start(flow))
    assert set(seen) == {("fail", "ValueError", "lost", 1)}


@scenario(2, CRASH)
async def a_failed_step_raises_alike_on_replay(h: Harness) -> None:
    """A failed step raises the same error on replay, and does not run again."""
    seen: list[str] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.step(h.fail, "lost")
        except StepFailedError as error:
            seen.append(str(error))
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert len(seen) >= 2
    assert len(set(seen)) == 1
    assert h.ledger == ["lost"]


@scenario(2, CRASH)
async def declared_exceptions_are_raised_as_themselves(h: Harness) -> None:
    """A declared exception type comes through as itself, live and on replay."""
    seen: list[tuple[Any, ...]] = []

    async def take(article: str) -> None:
        h.ledger.append(article)
        raise OutOfStock(article, 3)

    taken = step(raises=(OutOfStock,))(take)

    @h.workflow
    async def flow(ctx: Context) -> None:
        try:
            await ctx.step(taken, "pen")
        except OutOfStock as error:
            seen.append(error.args)
        await ctx.wait_for_approval("go?")

    execution = await h.start(flow)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    assert len(seen) >= 2
    assert set(seen) == {("pen", 3)}
    assert h.ledger == ["pen"]


@scenario(2)
async def should_retry_of_a_step_sees_the_original(h: Harness) -> None:
    """The step's own should_retry is called with the exception that the function raised."""
    seen: list[Exception] = []

    def judge(error: Exception) -> bool:
        seen.append(error)
        return False

    tried = step(retry=Retry(attempts=3, delay_ms=0, should_retry=judge))(h.fail)

    @h.workflow
    async def flow(ctx: Context) -> None:
        await ctx.step(tried, "broken")

    await h.error(await h.start(flow), RunFailedError)
    assert [type(error) for error in seen] == [ValueError]
    assert h.ledger == ["broken"]


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


@scenario(2, CRASH)
async def time_and_chance_are_the_same_on_replay(h: Harness) -> None:
    """ctx.now, ctx.uuid and ctx.random give on replay what they gave first, and differ from call to call."""
    seen: list[tuple[Any, ...]] = []

    @h.workflow
    async def flow(ctx: Context) -> None:
        values = (ctx.now(), ctx.uuid(), ctx.uuid(), ctx.random(), ctx.random())
        await ctx.wait_for_approval("go?")
        seen.append(values)

    execution = await h.start(flow)
    await h.advance(ms=5_000)
    await h.restart()
    execution = await h.again(execution)
    await execution.approve()
    await h.result(execution)
    (values,) = set(seen)
    assert values[1] != values[2]
    assert values[3] != values[4]
    assert (h.now() - values[0]).total_seconds() == 5


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
