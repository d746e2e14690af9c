"""The harness of the engine on Restate: one ledger, members in this process, and a clock that is set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osprotocol.client import Client
from osprotocol.errors import EngineClosedError
from osprotocol.testing.client import VirtualClient, connect
from osprotocol.testing.conformance.clocked import ClockedHarness
from osprotocol.testing.conformance.harness import CALLBACKS, CLOCK, CRASH, SEVERAL_CLIENTS


class _Mourning:
    """Dead workers as a clock looks at them: it is not calm while a living one still has to notice.

    Args:
        members: all clients, those that are closed included.
    """

    def __init__(self, members: list[VirtualClient]) -> None:
        self._members = members
        self._dead: set[str] = set()
        self.moves = 0

    def died(self, worker_id: str) -> None:
        """A worker has crashed."""
        self._dead.add(worker_id)

    @property
    def is_idle(self) -> bool:
        return not self._dead or not any(self._dead & _believed_alive(member) for member in self._members)

    @property
    def is_quiet(self) -> bool:
        return self.is_idle


def _believed_alive(member: VirtualClient) -> set[str]:
    engine: Any = member._engine
    if engine._closed or engine._membership is None:
        return set()
    try:
        return {worker_id for _, worker_id, _, _ in engine.store.rows("living_workers")}
    except EngineClosedError:
        return set()


class RestateHarness(ClockedHarness[VirtualClient]):
    """Members of one ledger in this process. What serves the ledger to Restate lives beside the harness.

    Args:
        url: of a ledger that is empty.
        apart: every client has a copy of its own, as on a machine of its own; else all share one.
    """

    capabilities = frozenset({CRASH, CLOCK, CALLBACKS, SEVERAL_CLIENTS})

    def __init__(self, url: str, *, apart: bool = False) -> None:
        super().__init__()
        self._url = url
        self._apart = apart
        self._mourning = _Mourning(self._clients)
        self._clock.attach(self._mourning, is_engine=False)

    def _client(self, **settings: Any) -> VirtualClient:
        return connect(url=self._url, **settings)

    async def connect(self, **settings: Any) -> Client:
        """One more member of the same ledger."""
        path = Path(self._folder.name) / f"copy-{len(self._clients)}.db" if self._apart else None
        return await self._open(beside=self._clients[0], path=path, **settings)

    async def crash(self, client: Client) -> None:
        """Drop the client without its goodbyes."""
        assert isinstance(client, VirtualClient)
        engine: Any = client._engine
        if engine._membership is not None:
            self._mourning.died(engine._membership.worker_id)
        await client.crash()
