"""`Served`: a real server around a client, on a free port of this machine, in the event loop of the test."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Any, Self

import uvicorn

from osprotocol._embedded.books import Books
from osprotocol._http.address import Address, Token, read_address
from osprotocol._lifecycle.people import identity
from osprotocol.client import Client
from osprotocol.server.access import Role
from osprotocol.server.app import create_app
from osprotocol.server.settings import ServerSettings

HOST = "127.0.0.1"
# A handler notices that its connection is gone, or ends by itself.
_PATIENCE_S = 1.0
EVERY_ROLE = tuple(role.value for role in Role)


class Served:
    """A server around a connected client of an embedded engine; use it with ``async with``.

    Args:
        client: the runs.
        port: 0 takes a free one; give the port of an earlier one to take its place.
        settings: of the server, apart from its port.
    """

    def __init__(self, client: Client, *, port: int = 0, **settings: Any) -> None:
        self._client = client
        self._settings = {"allow_self_approval": True, **settings}
        self._port = port
        self._tokens: dict[str, Token] = {}
        self._making = asyncio.Lock()
        self._sockets: list[socket.socket] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    @property
    def address(self) -> Address:
        """Where it is, as a client of ours wants it."""
        return read_address(self.url)

    @property
    def port(self) -> int:
        """The port that it has."""
        assert self._port, "it is not started yet"
        return self._port

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> Self:
        """Start to answer."""
        engine: Any = self._client._engine
        self.books = await Books.open(engine)
        listening = socket.socket(
            socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )  # asyncio looks for TCP by number
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, self._port))
        self._port = listening.getsockname()[1]
        self.app = create_app(self._client, self.books, ServerSettings(port=self._port, **self._settings))
        config = uvicorn.Config(self.app, log_config=None, access_log=False, lifespan="on", date_header=False)
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        # Not `serve`, which would take the test process's signals.
        await self._server.startup([listening])
        return self

    async def close(self) -> None:
        """Stop at once, as if the process had ended: streams are cut, requests under way get no answer."""
        state = self._server.server_state
        for server in self._server.servers:
            server.close()
        for connection in list(state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await self._server.lifespan.shutdown()
        tasks = list(state.tasks)
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=_PATIENCE_S)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        await self.books.close()

    async def token_of(self, name: str, roles: tuple[str, ...] = EVERY_ROLE) -> Token:
        """A token of a person, who is made known if necessary; the same one for the same person."""
        person = identity(name)
        async with self._making:
            if person not in self._tokens:
                if self.books.find_user(name) is None:
                    await self.books.add_user(name, roles, by="tests")
                _, secret = await self.books.add_token(name, "tests", roles, by="tests")
                self._tokens[person] = Token(secret)
            return self._tokens[person]
