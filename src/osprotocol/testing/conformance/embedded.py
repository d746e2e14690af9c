"""The harness of the embedded engine: a temporary database and a clock that is set."""

from __future__ import annotations

from typing import Any

from osprotocol.client import Client
from osprotocol.testing.client import VirtualClient, connect
from osprotocol.testing.conformance.clocked import ClockedHarness
from osprotocol.testing.conformance.harness import CALLBACKS, CLOCK, CRASH, SEVERAL_CLIENTS


class EmbeddedHarness(ClockedHarness[VirtualClient]):
    """An embedded engine in this process.

    Args:
        always_park: unwind the code at every wait.
    """

    capabilities = frozenset({CRASH, CLOCK, CALLBACKS, SEVERAL_CLIENTS})

    def __init__(self, *, always_park: bool = False) -> None:
        super().__init__()
        self._always_park = always_park

    def _client(self, **settings: Any) -> VirtualClient:
        return connect(always_park=self._always_park, **settings)

    async def connect(self, **settings: Any) -> Client:
        """One more client of the same database."""
        return await self._open(beside=self._clients[0], **settings)

    async def crash(self, client: Client) -> None:
        """Drop the client without its goodbyes."""
        assert isinstance(client, VirtualClient)
        await client.crash()
