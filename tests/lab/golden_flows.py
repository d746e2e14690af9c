"""The runs whose journals are kept, and how each is brought to the stage at which its file was kept.

Kept files are replayed with this code. So what is here never changes; new stages come beside it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
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
from tests.crash.life import Life


@dataclass
class World:
    """What happens outside of the engine.

    Attributes:
        begun: how often each step began, by its idempotency key.
        blocked: labels of steps that do not return, as if their process died in them.
    """

    begun: Counter[str] = field(default_factory=Counter)
    blocked: set[str] = field(default_factory=set)
    is_down: bool = False


world = World()


async def _happen(label: str) -> str:
    world.begun[current_step().idempotency_key] += 1
    if label in world.blocked:
        await asyncio.get_running_loop().create_future()
    return f"did {label}"


@step(name="golden.do")
async def do(label: str) -> str:
    return await _happen(label)


@step(name="golden.once", at_most_once=True)
async def once(label: str) -> str:
    return await _happen(label)


@step(name="golden.flaky", retry=Retry(attempts=3, delay_ms=5_000, backoff="exponential"))
async def flaky(label: str) -> str:
    if world.is_down:
        await _happen(label)
        raise ConnectionError(f"{label} is down")
    return await _happen(label)


@workflow(name="golden.approval")
async def approval(ctx: Context) -> list[str]:
    first = await ctx.step(do, "a")
    answer = await ctx.wait_for_approval("Go on?", payload={"first": first})
    return [first, answer.outcome, await ctx.step(do, "b")]


@workflow(name="golden.votes")
async def votes(ctx: Context) -> list[str | None]:
    config = ApprovalConfig(approvers=("ann", "bob", "cleo"), required_approvals=2, timeout_ms=86_400_000)
    answer = await ctx.wait_for_approval("Two of three?", config)
    return [response.by for response in answer.responses]


@workflow(name="golden.input")
async def asked(ctx: Context) -> int:
    number = await ctx.wait_for_input("Which number?", int)
    await ctx.step(do, f"number {number}")
    return number


@workflow(name="golden.asleep")
async def asleep(ctx: Context) -> list[str]:
    first = await ctx.step(do, "before")
    await ctx.sleep(timedelta(days=30))
    return [first, await ctx.step(do, "after")]


@workflow(name="golden.child")
async def child(ctx: Context, name: str) -> str:
    await ctx.step(do, f"child {name}")
    return f"{name} {(await ctx.wait_for_approval(f'May {name}?')).outcome}"


@workflow(name="golden.parent")
async def parent(ctx: Context) -> list[str]:
    return [await ctx.step(do, "parent"), await ctx.run(child, "one"), await ctx.step(do, "end")]


@workflow(name="golden.gather")
async def gather(ctx: Context) -> list[Any]:
    seen: list[str] = []

    async def told(name: str, operation: Awaitable[Any]) -> Any:
        result = await operation
        seen.append(name)
        await ctx.step(do, "then " + " ".join(seen))
        return getattr(result, "outcome", result)

    results = await ctx.gather(
        told("approval", ctx.wait_for_approval("Left?")),
        told("step", ctx.step(do, "beside")),
        told("sleep", ctx.sleep(ms=60_000)),
        told("child", ctx.run(child, "two")),
    )
    return [*results, len(seen)]


@workflow(name="golden.map")
async def mapped(ctx: Context) -> list[str]:
    return await ctx.map(do, ["one", "two", "three", "four"], max_concurrency=2)


@workflow(name="golden.cleanup")
async def cleanup(ctx: Context) -> str:
    await ctx.step(do, "reserve")
    try:
        await ctx.wait_for_input("For ever?")
    finally:
        await ctx.step(do, "undo one")
        await ctx.step(do, "undo two")
    return "never"


@workflow(name="golden.flaky_step")
async def flaky_step(ctx: Context) -> list[str]:
    return [await ctx.step(do, "kept"), await ctx.step(flaky, "mail")]


@workflow(name="golden.attempts", options=RunOptions(retry=Retry(attempts=2, delay_ms=60_000)))
async def attempts(ctx: Context) -> list[str]:
    kept = await ctx.step(do, "kept")
    return [kept, await ctx.step(unsure, "unsure")]


@step(name="golden.unsure")
async def unsure(label: str) -> str:
    await _happen(label)
    if world.is_down:
        raise ConnectionError(label)
    return f"did {label}"


@workflow(name="golden.interrupted")
async def interrupted(ctx: Context) -> str:
    return await ctx.step(once, "payment")


@workflow(name="golden.values")
async def values(ctx: Context) -> str:
    """What is recorded beside steps is an argument later: another value on replay is a mismatch."""
    chosen = f"{ctx.uuid()} {ctx.random()} {ctx.now().isoformat()}"
    await ctx.wait_for_approval("Go on?")
    ctx.report_progress(1, 2, "half")
    await ctx.step(do, chosen)
    return "ok"


@workflow(name="golden.fails")
async def fails(ctx: Context) -> None:
    await ctx.step(do, "before")
    raise TerminalError("no way")


Reach = Callable[[Life, Execution[Any]], Awaitable[None]]


async def _settle(life: Life) -> None:
    for _ in range(3):
        await life.settle()


async def _calm(life: Life, execution: Execution[Any]) -> None:
    await _settle(life)


async def _votes_once(life: Life, execution: Execution[Any]) -> None:
    await _settle(life)
    await execution.approve(by="bob")


async def _pauses(life: Life, execution: Execution[Any]) -> None:
    await _settle(life)
    await execution.pause("lunch", by="ann")
    await _settle(life)


async def _cancels(life: Life, execution: Execution[Any]) -> None:
    await _settle(life)
    await execution.cancel("enough", by="ann", graceful=True)
    await _settle(life)


async def _approves(life: Life, execution: Execution[Any]) -> None:
    await _settle(life)
    await execution.approve(by="ann")
    await _settle(life)


@dataclass(frozen=True)
class Stage:
    """A run at the stage at which its file is kept, and how it ends.

    Attributes:
        blocked: steps that do not return before the file is kept.
        is_down: whether what fails sometimes fails.
        lives: processes that die there, one after the other; the last leaves the file.
        works: whether there is a worker at all.
        closes: whether the process ends as it should; otherwise it dies.
    """

    name: str
    workflow: Any
    status: str
    result: Any
    reach: Reach = _calm
    blocked: frozenset[str] = frozenset()
    is_down: bool = False
    lives: int = 1
    works: bool = True
    closes: bool = False


_CANCELLED = "enough"
STAGES = (
    Stage("pending", approval, "completed", ["did a", "approved", "did b"], works=False),
    Stage("approval", approval, "completed", ["did a", "approved", "did b"], closes=True),
    Stage("approval-dead", approval, "completed", ["did a", "approved", "did b"]),
    Stage("approved-in-step", approval, "completed", ["did a", "approved", "did b"], _approves, frozenset({"b"})),
    Stage("one-vote", votes, "completed", ["bob", "ann"], _votes_once, closes=True),
    Stage("input", asked, "completed", 41, closes=True),
    Stage("asleep", asleep, "completed", ["did before", "did after"], closes=True),
    Stage("paused", asleep, "completed", ["did before", "did after"], _pauses, closes=True),
    Stage("gather", gather, "completed", ["approved", "did beside", None, "two approved", 4]),
    Stage("map", mapped, "completed", [f"did {n}" for n in ("one", "two", "three", "four")],
          blocked=frozenset({"two", "four"})),
    Stage("cleanup", cleanup, "cancelled", _CANCELLED, _cancels, frozenset({"undo two"})),
    Stage("step-retry", flaky_step, "completed", ["did kept", "did mail"], is_down=True),
    Stage("run-retry", attempts, "completed", ["did kept", "did unsure"], is_down=True, closes=True),
    Stage("child", parent, "completed", ["did parent", "one approved", "did end"], closes=True),
    Stage("in-step", flaky_step, "completed", ["did kept", "did mail"], blocked=frozenset({"mail"})),
    Stage("attention", interrupted, "completed", "did payment", blocked=frozenset({"payment"}), lives=2),
    Stage("values", values, "completed", "ok", closes=True),
    Stage("completed", approval, "completed", ["did a", "approved", "did b"], _approves, closes=True),
    Stage("failed", fails, "failed", "no way", closes=True),
)  # fmt: skip
