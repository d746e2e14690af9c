"""osprotocol on its embedded engine, at its default durability, which is full."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

import apsw
from workload.contender import Contender, step_body
from workload.script import main

from osprotocol import Context, Execution, RunStatus, connect, step, workflow
from osprotocol._limits import LINGER_MS

CONCURRENCY = 100
LOOK_S = 0.001
"""How often a waiting run's live status is looked at; outside everything that is timed."""

UNWIND_S = 0.5
"""Time for the last runs to be unwound after the linger time."""

noop = step(step_body)


@workflow
async def steps_workflow(ctx: Context, steps: int) -> str:
    """That many no-op steps, one after the other."""
    result = ""
    for _ in range(steps):
        result = await ctx.step(noop)
    return result


@workflow
async def approval_workflow(ctx: Context) -> str:
    """Wait for an approval, then one step."""
    await ctx.wait_for_approval("Go on?")
    return await ctx.step(noop)


class Osp(Contender):
    """One client that also works on its runs."""

    def __init__(self, variant: str) -> None:
        assert variant == "full"
        self._lingering: dict[str, Execution[str]] = {}

    async def open(self, directory: Path) -> None:
        self._stack = AsyncExitStack()
        self._client = await self._stack.enter_async_context(
            connect(str(directory / "runs.db"), worker=True, concurrency=CONCURRENCY)
        )

    async def close(self) -> None:
        await self._stack.aclose()

    async def run(self, steps: int) -> None:
        execution = await steps_workflow.start(steps)
        await execution.result

    async def ask(self, *, linger: bool) -> str:
        execution = await approval_workflow.start()
        if linger:
            self._lingering[execution.id] = execution
        return execution.id

    async def wait_until_waiting(self, run_id: str) -> None:
        execution = self._lingering.get(run_id) or await self._client.get(run_id, approval_workflow)
        while execution.status is not RunStatus.AWAITING:
            await asyncio.sleep(LOOK_S)
            if run_id not in self._lingering:
                await execution.refresh()

    async def park(self, run_ids: Iterable[str]) -> None:
        """A run that has waited for the linger time is unwound by itself."""
        await asyncio.sleep(LINGER_MS / 1000 + UNWIND_S)

    async def vote(self, run_id: str) -> None:
        execution = self._lingering.pop(run_id, None) or await self._client.get(run_id, approval_workflow)
        await execution.approve(by="bench")
        await execution.result


def environment() -> dict[str, str]:
    """The versions that were used."""
    return {"osprotocol": version("osprotocol"), "sqlite": apsw.sqlite_lib_version(), "json": "pydantic_core"}


if __name__ == "__main__":
    main(Osp, environment)
