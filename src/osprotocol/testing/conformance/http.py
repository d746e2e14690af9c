"""The harness of the engine over HTTP: an embedded engine, a real server around it and a client of that server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Self

from osprotocol._http.address import Token
from osprotocol._http.engine import HttpEngine
from osprotocol._lifecycle.people import check_person
from osprotocol.client import Client
from osprotocol.engine import Engine, operating_system_user
from osprotocol.errors import EngineClosedError
from osprotocol.server.hub import Pace
from osprotocol.testing.client import VirtualClient, connect
from osprotocol.testing.conformance.clocked import ClockedHarness
from osprotocol.testing.conformance.harness import CLOCK, CRASH, SEVERAL_CLIENTS
from osprotocol.testing.served import Served


class _AnybodyEngine(HttpEngine):
    """An engine that acts as whoever a scenario names: each person signs in with a token of their own."""

    def __init__(self, served: Served, token: Token, **settings: Any) -> None:
        super().__init__(served.address, token, **settings)
        self._served = served

    async def _token_for(self, by: str) -> Token | None:
        check_person(by)
        return await self._served.token_of(by)


class _Activity:
    """A client over HTTP as a clock looks at it: what is under way, and what its live stream has not told yet."""

    def __init__(self, engine: HttpEngine, backend: Any) -> None:
        self._engine = engine
        self._backend = backend

    @property
    def is_idle(self) -> bool:
        engine = self._engine
        if engine.calls.under_way or engine.watches.is_asking:
            return False
        if self._backend._closed or not engine._is_interested():
            return True
        newest = self._backend.store.rows("newest_events", (1,))
        return engine.stream.is_open and (not newest or engine.stream.position >= newest[0][0])

    @property
    def is_quiet(self) -> bool:
        return self.is_idle

    @property
    def moves(self) -> int:
        return self._engine.calls.answered + self._engine.stream.position


class ServedClient(Client):
    """A client over HTTP together with the process that serves it: closing it ends both.

    Args:
        backend: the client of the serving process.
    """

    def __init__(self, backend: VirtualClient) -> None:
        super().__init__(self._open_engine_here)
        self.backend = backend
        self._detach: Callable[[], None] | None = None
        self._served: Served | None = None

    async def _open_engine_here(self) -> Engine:
        await self.backend.open()
        self._served = await Served(self.backend).open()
        self._served.app.state.serving.hub.pace = Pace(batch_s=0.0, log_s=0.02)
        token = await self._served.token_of(operating_system_user())
        engine = _AnybodyEngine(self._served, token, clock=self.backend.clock)
        await engine.begin()
        self._detach = self.backend.clock.attach(_Activity(engine, self.backend._engine), is_engine=False)
        return engine

    async def open(self) -> Self:
        """Start the serving process and connect to it."""
        return await super().open()

    async def _leave(self) -> None:
        if self._detach is not None:
            self._detach()
            self._detach = None

    async def _stop_serving(self) -> None:
        if self._served is not None:
            await self._served.close()
            self._served = None
        await super().close()

    async def close(self) -> None:
        """The serving process parks what runs and ends."""
        await self._leave()
        with contextlib.suppress(EngineClosedError):
            await self.backend.close()
        await self._stop_serving()

    async def crash(self) -> None:
        """The serving process dies."""
        await self._leave()
        await self.backend.crash()
        await self._stop_serving()


class HttpHarness(ClockedHarness[ServedClient]):
    """Clients over HTTP, each with a serving process of its own, all on one database.

    The clock settles when no request is under way and every live stream has told everything.
    """

    capabilities = frozenset({CRASH, CLOCK, SEVERAL_CLIENTS})

    def _client(self, **settings: Any) -> ServedClient:
        return ServedClient(connect(**settings))

    async def connect(self, **settings: Any) -> Client:
        """One more server on the same database, and a client of it."""
        return await self._open(beside=self._clients[0].backend, **settings)

    async def crash(self, client: Client) -> None:
        """The process that serves the client dies."""
        assert isinstance(client, ServedClient)
        await client.crash()
