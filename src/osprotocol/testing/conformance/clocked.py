"""What harnesses share whose clients live in this process: one temporary database, one clock that is set."""

from __future__ import annotations

import contextlib
import tempfile
from abc import abstractmethod
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from osprotocol.client import Client
from osprotocol.errors import EngineClosedError
from osprotocol.testing.clock import VirtualClock
from osprotocol.testing.conformance.harness import Harness

C = TypeVar("C", bound=Client)


class ClockedHarness(Harness, Generic[C]):
    """Clients of one temporary database on one virtual clock."""

    def __init__(self) -> None:
        super().__init__()
        self._clients: list[C] = []
        self._clock = VirtualClock()

    @abstractmethod
    def _client(self, **settings: Any) -> C:
        """A client that is not open yet; the settings are those of `osprotocol.testing.connect`."""

    async def _open(self, **settings: Any) -> C:
        client = self._client(**settings)
        self._clients.append(client)
        return await client.open()

    async def begin(self) -> None:
        """Connect the first client."""
        self._folder = tempfile.TemporaryDirectory(prefix="osprotocol-conformance-")
        self.client = await self._open(clock=self._clock, path=Path(self._folder.name) / "runs.db")

    async def end(self) -> None:
        """Close every client and remove the database."""
        for client in reversed(self._clients):
            with contextlib.suppress(EngineClosedError):
                await client.close()
        self._folder.cleanup()

    async def settle(self) -> None:
        """Wait on the virtual clock."""
        await self._clock.settle()

    async def advance(self, duration: timedelta | None = None, *, ms: int | None = None) -> None:
        """Move the virtual clock."""
        await self._clock.advance(duration, ms=ms)

    def set_clock(self, moment: datetime) -> None:
        """Set the virtual clock."""
        self._clock.set(moment)

    def now(self) -> datetime:
        """The virtual time."""
        return self._clock.moment
