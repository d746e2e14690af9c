"""The harness of the embedded engine: a temporary database and a clock that is set."""

from __future__ import annotations

import contextlib
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from osprotocol.client import Client
from osprotocol.errors import EngineClosedError
from osprotocol.testing.client import VirtualClient, connect
from osprotocol.testing.clock import VirtualClock
from osprotocol.testing.conformance.harness import CALLBACKS, CLOCK, CRASH, SEVERAL_CLIENTS, Harness


class EmbeddedHarness(Harness):
    """An embedded engine in this process.

    Args:
        always_park: unwind the code at every wait.
    """

    capabilities = frozenset({CRASH, CLOCK, CALLBACKS, SEVERAL_CLIENTS})

    def __init__(self, *, always_park: bool = False) -> None:
        super().__init__()
        self._always_park = always_park
        self._clients: list[VirtualClient] = []
        self._clock = VirtualClock()

    async def begin(self) -> None:
        """Connect the first client."""
        self._folder = tempfile.TemporaryDirectory(prefix="osprotocol-conformance-")
        path = Path(self._folder.name) / "runs.db"
        first = connect(clock=self._clock, always_park=self._always_park, path=path)
        self._clients.append(first)
        self.client = await first.open()

    async def end(self) -> None:
        """Close every client and remove the database."""
        for client in reversed(self._clients):
            with contextlib.suppress(EngineClosedError):
                await client.close()
        self._folder.cleanup()

    async def connect(self, **settings: Any) -> Client:
        """One more client of the same database."""
        client = connect(beside=self._clients[0], always_park=self._always_park, **settings)
        self._clients.append(client)
        return await client.open()

    async def crash(self, client: Client) -> None:
        """Drop the client without its goodbyes."""
        assert isinstance(client, VirtualClient)
        await client.crash()

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
