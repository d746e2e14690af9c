"""What the server benchmark runs: five steps, and a question with a step behind it."""

from __future__ import annotations

import os
import time

from osprotocol import Context, step, workflow


@step
async def small(number: int) -> int:
    """Almost nothing."""
    return number + 1


@step
async def note_start() -> float:
    """When this step began; also on disk, so that another process sees it."""
    now = time.time()
    with open(os.environ["OSP_BENCH_STEP"], "a", encoding="utf-8") as file:
        file.write(f"{now!r}\n")
    return now


@workflow
async def five_steps(ctx: Context) -> int:
    """Five steps, one after the other."""
    number = 0
    for _ in range(5):
        number = await ctx.step(small, number)
    return number


@workflow
async def ask(ctx: Context) -> float:
    """Wait for a vote, then one step."""
    await ctx.wait_for_approval("Go on?", payload={"amount": 12})
    return await ctx.step(note_start)
