"""Waiting for what other processes do, and a second process's view: a client that does not work itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from osprotocol import Client, connect
from osprotocol.protocol.events import WorkerInfo

_LOOK_S = 0.005


async def until(condition: Callable[[], bool]) -> None:
    """Wait until another process has made it true."""
    while not condition():  # noqa: ASYNC110 - another process makes it true
        await asyncio.sleep(_LOOK_S)


async def until_it(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait until another process has made it true; for conditions that have to ask."""
    while not await condition():  # noqa: ASYNC110 - another process makes it true
        await asyncio.sleep(_LOOK_S)


async def looks_pass(rounds: int = 3) -> None:
    """Other processes look for dead workers several times in this while, and may do what a test says they do not."""
    await asyncio.sleep(rounds * 0.5)


def terminal(path: Path) -> Client:
    """A client as a terminal has it: it works on nothing."""
    return connect(path, worker=False, durability="off")


async def worker_of(client: Client, pid: int) -> WorkerInfo | None:
    """The living worker that a process is now."""
    for worker in await client.workers():
        if worker.name.endswith(f":{pid}") and worker.status == "alive":
            return worker
    return None
