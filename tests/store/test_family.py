"""What a parent run shows of its children."""

from __future__ import annotations

import asyncio
from pathlib import Path

from osprotocol import Context, Execution, RunStatus, connect, workflow


@workflow(name="family-grandchild")
async def grandchild(ctx: Context) -> bool:
    return (await ctx.wait_for_approval("Go on?")).approved


@workflow(name="family-child")
async def child(ctx: Context) -> bool:
    return await ctx.run(grandchild)


@workflow(name="family-parent")
async def parent(ctx: Context) -> bool:
    return await ctx.run(child)


async def waiting(execution: Execution[bool]) -> None:
    while execution.status is not RunStatus.AWAITING:
        await asyncio.sleep(0.005)
        await execution.refresh()


async def test_a_parent_tells_what_its_children_wait_for(tmp_path: Path) -> None:
    """The question of a grandchild stands in the grandparent's `waiting_on`, with the run that asks."""
    async with connect(tmp_path / "runs.db") as client:
        execution = await client.create_run(parent).start()
        await waiting(execution)
        (wait,) = execution.waiting_on
        assert (wait.kind, wait.prompt) == ("approval", "Go on?")
        assert wait.run_id is not None
        await (await client.get(wait.run_id)).approve()
        assert await execution.result is True


async def test_a_pause_that_children_follow_is_told_once(tmp_path: Path) -> None:
    """It is the run's own pause, not theirs."""
    async with connect(tmp_path / "runs.db") as client:
        execution = await client.create_run(parent).start()
        await waiting(execution)
        await execution.pause()
        assert sorted(wait.kind for wait in execution.waiting_on) == ["approval", "paused"]
        await execution.cancel(graceful=False)
