"""A server in the test's event loop, and clients of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from osprotocol.client import Client
from osprotocol.connect import connect
from osprotocol.context import Context
from osprotocol.testing import connect as connect_virtual
from osprotocol.testing.client import VirtualClient
from osprotocol.testing.served import Served
from osprotocol.workflow import Workflow, known_workflows, register

PERSON = "ann"


@dataclass
class Site:
    """A served database.

    Attributes:
        backend: the client behind the server.
        served: the server.
        client: a client over HTTP.
    """

    backend: VirtualClient
    served: Served
    client: Client

    async def token(self, name: str = PERSON) -> str:
        """What says to the server that it is that person."""
        return (await self.served.token_of(name)).secret

    async def serve_again(self) -> None:
        """Another server takes the place of the one that was closed, at the same port."""
        self.served = await Served(self.backend, port=self.served.port).open()


@asynccontextmanager
async def site(**settings: Any) -> AsyncIterator[Site]:
    """A server with ann as a client."""
    async with connect_virtual() as backend:
        served = await Served(backend, **settings).open()
        async with connect(served.url, token=(await served.token_of(PERSON)).secret) as client:
            made = Site(backend, served, client)
            try:
                yield made
            finally:
                await made.served.close()


@asynccontextmanager
async def defined(function: Any) -> AsyncIterator[Workflow[Any, Any]]:
    """The function as a workflow of this process."""
    made: Workflow[Any, Any] = register(Workflow(function, name=f"http-{function.__name__}"))
    try:
        yield made
    finally:
        known_workflows().pop(made.name, None)


async def asks(ctx: Context) -> str:
    """Ask, and give the outcome."""
    return (await ctx.wait_for_approval("go?")).outcome


async def echo(ctx: Context, value: Any) -> Any:
    """Give the input back."""
    return value


async def until(condition: Any) -> None:
    """Wait for what a connection brings about."""
    while not condition():  # noqa: ASYNC110 - the network brings it about
        await asyncio.sleep(0.005)


class LossyProxy:
    """Passes connections on to a server, and loses as many answers as it is told: the request arrives, its answer not.

    Attributes:
        port: where it listens.
        to: the port that it passes on to; 0 refuses.
        lose: how many answers it still loses.
        requests: first lines of what was passed on.
    """

    def __init__(self) -> None:
        self.port = self.to = self.lose = 0
        self.requests: list[str] = []

    async def __aenter__(self) -> "LossyProxy":
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *ended: object) -> None:
        self._server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.to)

        async def forward() -> None:
            while data := await reader.read(65_536):
                if data.split(b" ", 1)[0] in (b"GET", b"POST", b"DELETE"):
                    self.requests.append(data.split(b"\r\n", 1)[0].decode())
                back_writer.write(data)

        async def back() -> None:
            while data := await back_reader.read(65_536):
                if self.lose and self.requests[-1].startswith("POST"):
                    self.lose -= 1
                    return
                writer.write(data)

        tasks = [asyncio.create_task(forward()), asyncio.create_task(back())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            back_writer.close()
