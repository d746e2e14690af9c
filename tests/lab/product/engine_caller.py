"""A program that uses a server through the library: it starts runs and awaits their results over all kills."""

from __future__ import annotations

import asyncio
from typing import Any

from osprotocol import Client, connect
from osprotocol.errors import OSProtocolError, TooManyRequestsError, UnreachableError
from osprotocol.execution import Execution
from tests.lab.harness import Tally
from tests.lab.product.callers import Callers
from tests.lab.product.history import Start
from tests.lab.product.world import World

_PAUSE_S = 0.05
_AT_MOST = 12


async def _connected(world: World) -> Client:
    """A client of the first server; connecting asks once only, and it may be dead at that instant."""
    while True:
        try:
            return await connect(world.url(), token=world.tokens["liv"]).open()
        except UnreachableError:
            await asyncio.sleep(_PAUSE_S)


async def through_the_engine(world: World, callers: Callers, tally: Tally) -> None:
    """Start runs until it is over, and await every result."""
    history = callers.history
    waiting: list[asyncio.Task[None]] = []
    async with await _connected(world) as client:
        workflow = client.workflow("lab.chain")

        async def wait(label: str, execution: Execution[Any]) -> None:
            history.results[label] = await execution.result
            tally.count("results awaited by clients")

        number = 0
        while not callers.is_over:
            number += 1
            start = Start("liv", "lab.chain", f"e{number}")
            history.starts.append(start)
            try:
                execution = await client.create_run(workflow, start.label).start()
            except (UnreachableError, TooManyRequestsError):
                tally.mark("starts of clients that gave up")
            except OSProtocolError as error:
                history.wrong.append(f"a client could not start {start.label}: {type(error).__name__}: {error}")
            else:
                start.told.append(execution.id)
                if number <= _AT_MOST:
                    waiting.append(asyncio.create_task(wait(start.label, execution)))
            await asyncio.sleep(_PAUSE_S)
        await asyncio.gather(*waiting)
