"""Code that was changed under a waiting run: a mismatch is named, nothing happens, and mended code goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from osprotocol import Context, Execution, RunStatus, Workflow, connect, step, workflow

_happened: list[str] = []


@step
async def charge(amount: int) -> int:
    _happened.append(f"charge {amount}")
    return amount


@step
async def refund(amount: int) -> int:
    _happened.append(f"refund {amount}")
    return -amount


Body = Callable[[Context], Awaitable[Any]]


def _define(body: Body) -> Workflow[None, int]:
    """The same workflow of the same module with other code, as after an edit and a restart."""

    @workflow(name="engine.changing")
    async def changing(ctx: Context) -> int:
        return int(await body(ctx))

    return changing


async def _as_written(ctx: Context) -> Any:
    paid = await ctx.step(charge, 5)
    approval = await ctx.wait_for_approval("Ship?")
    return paid + await ctx.step(charge, 1 if approval.approved else 2)


async def _other_step(ctx: Context) -> Any:
    paid = await ctx.step(refund, 5)
    await ctx.wait_for_approval("Ship?")
    return paid + await ctx.step(charge, 1)


async def _other_argument(ctx: Context) -> Any:
    paid = await ctx.step(charge, 6)
    await ctx.wait_for_approval("Ship?")
    return paid + await ctx.step(charge, 1)


async def _other_kind(ctx: Context) -> Any:
    await ctx.sleep(ms=1)
    await ctx.wait_for_approval("Ship?")
    return await ctx.step(charge, 1)


async def _step_removed(ctx: Context) -> Any:
    await ctx.wait_for_approval("Ship?")
    return await ctx.step(charge, 1)


async def _step_added_in_front(ctx: Context) -> Any:
    first = await ctx.step(refund, 1)
    paid = await ctx.step(charge, 5)
    await ctx.wait_for_approval("Ship?")
    return first + paid


async def _returns_at_once(ctx: Context) -> Any:
    return 0


_CHANGES = {
    "another step": (_other_step, "step charge", "step refund"),
    "another argument": (_other_argument, "step charge", "step charge"),
    "another kind": (_other_kind, "step charge", "sleep sleep"),
    "a step less": (_step_removed, "step charge", "request approval"),
    "a step more": (_step_added_in_front, "step charge", "step refund"),
    "no steps": (_returns_at_once, "step charge", "nothing"),
}


async def _waiting_run(path: Path) -> str:
    """A run that has paid and waits for its approval, with nobody at work."""
    _happened.clear()
    async with connect(path, durability="off") as client:
        execution = await client.create_run(_define(_as_written)).start()
        async for event in execution.events():
            if event.type == "request.opened":
                break
    assert _happened == ["charge 5"]
    return execution.id


async def _until_attention(execution: Execution[Any]) -> None:
    async for _ in execution.events():
        if any(request.kind == "attention" for request in (await execution.refresh()).requests):
            return


@pytest.mark.parametrize("change", _CHANGES)
async def test_a_mismatch_is_named_and_nothing_happens(change: str, tmp_path: Path) -> None:
    """A run whose code no longer fits its journal awaits attention, names both sides, and has no further effect."""
    run_id = await _waiting_run(tmp_path / "runs.db")
    body, recorded, asked = _CHANGES[change]
    _define(body)
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.get(run_id)
        await execution.approve(by="ann")
        await _until_attention(execution)
        (request,) = execution.requests
        assert request.payload["recorded"].startswith(recorded)
        assert request.payload["asked"].startswith(asked)
        assert execution.status is RunStatus.AWAITING
        assert _happened == ["charge 5"]


async def test_mended_code_goes_on_after_retry(tmp_path: Path) -> None:
    """With the code as it was, `retry` as the answer brings the run to its end, and nothing was done twice."""
    run_id = await _waiting_run(tmp_path / "runs.db")
    _define(_other_step)
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.get(run_id)
        await execution.approve(by="ann")
        await _until_attention(execution)
    _define(_as_written)
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.get(run_id)
        await execution.respond("retry", by="ann")
        assert await execution.result == 6
    assert _happened == ["charge 5", "charge 1"]


async def test_code_that_is_still_wrong_asks_again(tmp_path: Path) -> None:
    """`retry` without mending the code leads to the same question, and to no effect."""
    run_id = await _waiting_run(tmp_path / "runs.db")
    _define(_other_step)
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.get(run_id)
        await execution.approve(by="ann")
        await _until_attention(execution)
        (first,) = execution.requests
        await execution.respond("retry", by="ann")
        async for event in execution.events():
            if event.type == "request.opened" and event.number > int(first.id.rpartition("-")[2]):
                break
        (second,) = (await execution.refresh()).requests
        assert second.payload == first.payload
        assert _happened == ["charge 5"]


async def test_a_mismatched_run_can_be_cancelled(tmp_path: Path) -> None:
    """A run that awaits attention for a mismatch can be cancelled without executing its code."""
    run_id = await _waiting_run(tmp_path / "runs.db")
    _define(_other_step)
    async with connect(tmp_path / "runs.db", durability="off") as client:
        execution = await client.get(run_id)
        await execution.approve(by="ann")
        await _until_attention(execution)
        assert await execution.cancel("give up", graceful=False) == "cancelled"
        assert _happened == ["charge 5"]
