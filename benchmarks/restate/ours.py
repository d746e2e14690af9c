"""osprotocol: the same workflow, for `osp worker --url restate:... benchmarks/restate/ours.py`, and a client.

python benchmarks/restate/ours.py URL SCALE [worker]

With `worker` the client's process works itself.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # where `osp worker` loads this file from elsewhere

from load import RESULT, SCALES, Scale, measure

from osprotocol import Context, connect, step, workflow


@step
async def noop() -> str:
    """Nothing."""
    return RESULT


@workflow
async def one_step(ctx: Context) -> str:
    """One step that does nothing."""
    return await ctx.step(noop)


async def drive(url: str, scale: Scale, *, worker: bool) -> None:
    """Start runs and wait for their results."""
    async with connect(url, worker=worker) as client:

        async def run() -> str:
            execution = await client.create_run(one_step).start()
            return await execution.result

        await measure(run, scale)


if __name__ == "__main__":
    asyncio.run(drive(sys.argv[1], SCALES[sys.argv[2]], worker="worker" in sys.argv[3:]))
