"""Workflows that together use everything that is journaled, and the people who answer and cancel them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from osprotocol import (
    ApprovalConfig,
    Context,
    Execution,
    Retry,
    RunOptions,
    TerminalError,
    current_step,
    step,
    workflow,
)
from tests.crash.ledger import Ledger

_world: list[Ledger] = []


def set_world(ledger: Ledger) -> None:
    """The ledger that the effects of steps go into."""
    _world[:] = [ledger]


async def _happens(label: str) -> None:
    await _world[0].effect(label)


@step
async def work(label: str, value: int = 0) -> int:
    """An effect, and a result that depends on the input."""
    await _happens(label)
    _world[0].returns()
    return value + 1


@step(retry=Retry(attempts=3, delay_ms=500, backoff="exponential"))
async def flaky(label: str) -> str:
    """Fails twice, by the journal's count of tries, and then succeeds."""
    await _happens(f"{label}-{current_step().attempt}")
    if current_step().attempt < 3:
        raise ConnectionError(f"{label} is down")
    _world[0].returns()
    return f"{label} after {current_step().attempt}"


@step(raises=(KeyError,))
async def failing(label: str) -> int:
    """Always fails."""
    await _happens(label)
    raise KeyError(label)


@workflow(name="crash.steps")
async def steps(ctx: Context, start: int) -> list[Any]:
    value = await ctx.step(work, "one", start)
    ctx.report_progress(1, 3, "one done")
    ctx.log("between")
    chosen, instant = ctx.uuid(), ctx.now()
    value = await ctx.step(work, "two", value)
    try:
        await ctx.step(failing, "lost")
    except KeyError:
        value += 100
    value = await ctx.step(work, f"three of {chosen}", value)
    return [value, str(chosen), instant.isoformat()]


@workflow(name="crash.waiting")
async def waiting(ctx: Context) -> list[Any]:
    first = await ctx.step(work, "before")
    await ctx.sleep(timedelta(days=30))
    said = await ctx.step(flaky, "mail")
    await ctx.sleep(ms=1)
    return [await ctx.step(work, "after", first), said]


@workflow(name="crash.people")
async def people(ctx: Context) -> list[Any]:
    draft = await ctx.step(work, "draft")
    approval = await ctx.wait_for_approval(
        "Publish?", ApprovalConfig(approvers=("ann", "bob"), required_approvals=2), payload={"draft": draft}
    )
    if not approval.approved:
        raise TerminalError("rejected")
    number = await ctx.wait_for_input("Which number?", int)
    late = await ctx.wait_for_approval("Nobody answers this", ApprovalConfig(timeout_ms=60_000))
    return [await ctx.step(work, "publish", number), approval.approved_by, late.outcome]


@workflow(name="crash.child")
async def child(ctx: Context, name: str) -> str:
    await ctx.step(work, f"child {name}")
    await ctx.sleep(ms=10)
    answer = await ctx.wait_for_approval(f"May {name}?")
    return f"{name} {answer.outcome}"


@workflow(name="crash.family")
async def family(ctx: Context) -> list[Any]:
    await ctx.step(work, "parent")
    both = await ctx.gather(ctx.run(child, "left"), ctx.step(work, "beside"), ctx.run(child, "right"))
    squares = await ctx.map(number_work, [1, 2, 3], max_concurrency=2)
    return [*both, *squares]


@step
async def number_work(number: int) -> int:
    await _happens(f"item {number}")
    _world[0].returns()
    return number * number


@workflow(name="crash.cancelled")
async def cancelled(ctx: Context) -> str:
    await ctx.step(work, "reserve")
    try:
        await ctx.run(child, "of the cancelled")
    finally:
        await ctx.step(work, "undo one")
        await ctx.sleep(ms=5)
        await ctx.step(work, "undo two")
    return "never"


@step
async def third_time(label: str) -> str:
    """Fails in the first two attempts of the run: the world counts, not the journal."""
    await _happens(label)
    if _world[0].labels[label] < 3:
        raise ConnectionError(label)
    _world[0].returns()
    return "at last"


@workflow(name="crash.attempts", options=RunOptions(retry=Retry(attempts=9, delay_ms=1_000, backoff="linear")))
async def attempts(ctx: Context) -> list[str]:
    kept = await ctx.step(work, "kept")
    said = await ctx.step(third_time, "unsure")
    await ctx.step(work, "end")
    return [str(kept), said]


People = Callable[[Execution[Any], Ledger], Awaitable[bool]]


async def nobody(execution: Execution[Any], ledger: Ledger) -> bool:
    return False


async def _answer_open(execution: Execution[Any]) -> bool:
    """Do the next thing that a person would do with the run's requests; False when there is nothing to do."""
    await execution.refresh()
    if execution.status.is_final:
        return False
    for request in execution.requests:
        if request.kind != "approval":
            answer = 41 if request.kind == "input" else "retry"
            await execution.respond(answer, request_id=request.id, by="cleo")
            return True
        voted = {response.by.casefold() for response in request.responses}
        for person in request.approvers or ("dora",):
            if person not in voted and "Nobody" not in request.prompt:
                await execution.approve(request_id=request.id, by=person)
                return True
    return False


async def helpful(execution: Execution[Any], ledger: Ledger) -> bool:
    """Answers what the run asks, and what its children ask."""
    if await _answer_open(execution):
        return True
    from osprotocol.client import current_client

    page = await current_client().list(parent=execution.id, status="awaiting")
    for snapshot in page.items:
        if await _answer_open(await current_client().get(snapshot.id)):
            return True
    return False


async def cancelling(execution: Execution[Any], ledger: Ledger) -> bool:
    """Cancels the run once its child waits for a person."""
    await execution.refresh()
    if execution.cancelling or execution.status.is_final or not ledger.labels["child of the cancelled"]:
        return False
    if execution.status != "awaiting":
        return False
    await execution.cancel("no longer wanted", by="ann")
    return True


@dataclass(frozen=True)
class Scenario:
    """A run, its people, and how it has to end.

    Attributes:
        labels: effects that must have happened.
    """

    name: str
    workflow: Any
    input: Any
    people: People
    status: str
    result: Callable[[Any], bool]
    labels: tuple[str, ...] = field(default=())


SCENARIOS = (
    Scenario("steps", steps, 5, nobody, "completed", lambda value: value[0] == 108, ("one", "two", "lost")),
    Scenario(
        "waiting", waiting, None, nobody, "completed",
        lambda value: value == [2, "mail after 3"], ("before", "after"),
    ),
    Scenario(
        "people", people, None, helpful, "completed",
        lambda value: value == [42, "bob", "expired"], ("draft", "publish"),
    ),
    Scenario(
        "family", family, None, helpful, "completed",
        lambda value: value == ["left approved", 1, "right approved", 1, 4, 9], ("parent", "beside", "child left"),
    ),
    Scenario(
        "cancelled", cancelled, None, cancelling, "cancelled", lambda value: value == "no longer wanted",
        ("reserve", "undo one", "undo two"),
    ),
    Scenario("attempts", attempts, None, nobody, "completed", lambda value: value == ["1", "at last"], ("kept", "end")),
)  # fmt: skip
