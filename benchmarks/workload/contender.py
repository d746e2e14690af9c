"""What a contender must be able to do to be measured."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

RESULT_CHARACTERS = 100
"""Every step returns a string of this length."""


class UnsupportedError(Exception):
    """The contender cannot do this at all; the text becomes the figure's note."""


async def step_body() -> str:
    """The no-op step that every contender runs."""
    return "x" * RESULT_CHARACTERS


class Contender(ABC):
    """One engine, opened on one new directory, driven from one event loop."""

    waiting_parallelism = 100
    """How many votes are under way at once when a whole fleet is answered."""

    can_linger = True
    """False for an engine that unwinds a waiting run at once."""

    can_park = True
    """False for an engine whose waiting runs always stay in memory."""

    @abstractmethod
    async def open(self, directory: Path) -> None:
        """Open or create the engine's file in `directory`; ready to start runs when it returns."""

    @abstractmethod
    async def close(self) -> None:
        """Close what `open` opened. Waiting runs stay waiting."""

    @abstractmethod
    async def run(self, steps: int) -> None:
        """Start a run of that many steps, one after the other, and wait until its result is handed out."""

    @abstractmethod
    async def ask(self, *, linger: bool) -> str:
        """Start a run that waits for an approval and then does one step; return its id.

        Args:
            linger: True to keep the run in memory while it waits, where the engine can.
        """

    @abstractmethod
    async def wait_until_waiting(self, run_id: str) -> None:
        """Return when the run is known to wait for its approval."""

    @abstractmethod
    async def park(self, run_ids: Iterable[str]) -> None:
        """Return when none of these runs is in memory any more."""

    @abstractmethod
    async def vote(self, run_id: str) -> None:
        """Approve the run and wait until its result is seen."""

    async def vote_all(self, run_ids: list[str], limit_s: float) -> int:
        """Approve these runs until all are finished or the time is over; return how many finished."""
        pending = iter(run_ids)
        deadline = time.perf_counter() + limit_s
        finished = 0

        async def voter() -> None:
            nonlocal finished
            for run_id in pending:
                if time.perf_counter() > deadline:
                    return
                await self.vote(run_id)
                finished += 1

        await asyncio.gather(*(voter() for _ in range(self.waiting_parallelism)))
        return finished
