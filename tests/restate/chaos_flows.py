"""The workflows of the chaos run. Each step notes in the outside ledger that it begins, what it saw, and how it ends.

A step gives a value that no other execution of it gives, and is handed the values that the code saw before it: so the
ledger shows that a result was seen, and whether everybody saw the same one.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from datetime import timedelta
from typing import Any

from osprotocol import (
    ApprovalConfig,
    Cancel,
    Context,
    Retry,
    RunOptions,
    current_step,
    step,
    workflow,
)
from tests.restate.ledger_file import note

Values = list[str]

_process = secrets.token_hex(4)
_count = itertools.count()


def _begin(label: str, saw: Values) -> None:
    current = current_step()
    note("begin", key=current.idempotency_key, label=label, turn=current.attempt, saw=saw)


def _end(label: str) -> str:
    value = f"{label}~{_process}.{next(_count)}"
    note("end", key=current_step().idempotency_key, label=label, value=value)
    return value


@step
async def work(label: str, saw: Values, ms: int) -> str:
    """An effect that takes a while, on the event loop."""
    _begin(label, saw)
    await asyncio.sleep(ms / 1_000)
    return _end(label)


@step
def toil(label: str, saw: Values, ms: int) -> str:
    """The same in a thread."""
    _begin(label, saw)
    time.sleep(ms / 1_000)
    return _end(label)


@step(retry=Retry(attempts=3, delay_ms=150))
async def flaky(label: str, saw: Values) -> str:
    """Fails at its first try."""
    _begin(label, saw)
    if current_step().attempt == 1:
        raise ConnectionError("once")
    return _end(label)


@step
async def item(number: int) -> str:
    """One of several that run side by side."""
    _begin(f"item{number}", [])
    await asyncio.sleep(0.01 * (number % 4))
    return _end(f"item{number}")


def _completed(result: Any) -> None:
    note("callback", run=result["run"], name="complete")


def _failed(error: Any) -> None:
    note("callback", run=error.run_id, name="failed")


def _cancelled(reason: str | None) -> None:
    # People give a run's key as their reason. A timeout's reason names no run.
    if reason is not None and not reason.startswith("timed out"):
        note("callback", key=reason, name="cancelled")


_OPTIONS = RunOptions(
    on_complete=_completed,
    on_failed=_failed,
    cancel=Cancel(graceful_timeout_ms=180_000, after_cancel=_cancelled),
)


@workflow(name="chaos.chain", options=_OPTIONS)
async def chain(ctx: Context, plan: dict[str, Any]) -> dict[str, Any]:
    """Steps of all kinds in a row, with sleeps between them."""
    saw: Values = []
    for number, ms in enumerate(plan["sleeps"]):
        kind = (work, toil)[number % 2]
        saw.append(await ctx.step(kind, f"s{number}", list(saw), plan["ms"]))
        await ctx.sleep(ms=ms)
    saw.append(await ctx.step(flaky, "flaky", list(saw)))
    saw.append(await ctx.step(work, "last", list(saw), plan["ms"]))
    return {"run": ctx.id, "saw": saw}


@workflow(name="chaos.votes", options=_OPTIONS)
async def votes(ctx: Context, plan: dict[str, Any]) -> dict[str, Any]:
    """Approvals, one after the other, each between steps."""
    saw: Values = [await ctx.step(work, "draft", [], plan["ms"])]
    decided = []
    for number, ask in enumerate(plan["asks"]):
        config = ApprovalConfig(
            approvers=tuple(ask["approvers"]), required_approvals=ask["required"], reject_threshold=ask["threshold"]
        )
        approval = await ctx.wait_for_approval(f"question {number}", config, payload={"saw": saw})
        voters = [[answer.by, answer.approved] for answer in approval.responses]
        decided.append({"outcome": approval.outcome, "by": approval.approved_by, "votes": voters})
        saw.append(await ctx.step(toil, f"{approval.outcome}{number}", list(saw), plan["ms"]))
    return {"run": ctx.id, "saw": saw, "decided": decided}


@workflow(name="chaos.inputs", options=_OPTIONS)
async def inputs(ctx: Context, plan: dict[str, Any]) -> dict[str, Any]:
    """Two questions for a number, with steps around them."""
    saw: Values = [await ctx.step(work, "ask", [], plan["ms"])]
    first = await ctx.wait_for_input("first", int)
    saw.append(await ctx.step(work, f"got{first}", list(saw), plan["ms"]))
    second = await ctx.wait_for_input("second", int)
    saw.append(await ctx.step(toil, f"then{second}", list(saw), plan["ms"]))
    return {"run": ctx.id, "saw": saw, "numbers": [first, second]}


@workflow(name="chaos.reserved", options=_OPTIONS)
async def reserved(ctx: Context, plan: dict[str, Any]) -> dict[str, Any]:
    """Reserves, works for long, and undoes it when it is cancelled."""
    saw: Values = [await ctx.step(work, "reserve", [], plan["ms"])]
    try:
        for number in range(plan["rounds"]):
            saw.append(await ctx.step(work, f"round{number}", list(saw), plan["ms"]))
            await ctx.sleep(ms=200)
        await ctx.sleep(timedelta(days=1))
    finally:
        saw.append(await ctx.step(work, "undo", list(saw), plan["ms"]))
        await ctx.sleep(ms=50)
        await ctx.step(toil, "undone", list(saw), plan["ms"])
    return {"run": ctx.id, "saw": saw}


@workflow(name="chaos.endless", options=_OPTIONS)
async def endless(ctx: Context, plan: dict[str, Any]) -> dict[str, Any]:
    """A step and a sleep without end; its timeout ends it."""
    saw: Values = [await ctx.step(toil, "only", [], plan["ms"])]
    await ctx.sleep(timedelta(days=1))
    return {"run": ctx.id, "saw": saw}


@workflow(name="chaos.family", options=_OPTIONS)
async def family(ctx: Context, plan: dict[str, Any]) -> dict[str, Any]:
    """Children, steps beside them, and a map."""
    saw: Values = [await ctx.step(work, "parent", [], plan["ms"])]
    small = {"sleeps": [50], "ms": plan["ms"]}
    left, beside, right = await ctx.gather(
        ctx.run(chain, small), ctx.step(work, "beside", list(saw), plan["ms"]), ctx.run(chain, small)
    )
    items = await ctx.map(item, range(plan["items"]), max_concurrency=2)
    saw += [beside, *items]
    saw.append(await ctx.step(toil, "end", list(saw), plan["ms"]))
    return {"run": ctx.id, "saw": saw, "children": {one["run"]: one["saw"] for one in (left, right)}}
