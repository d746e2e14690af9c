"""`Server`: the application on a TCP port, in the caller's event loop, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import uvicorn

from osprotocol.client import Client
from osprotocol.errors import EngineError
from osprotocol.server.app import create_app
from osprotocol.server.settings import ServerSettings
from osprotocol.server.start_checks import check_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osprotocol._embedded.books import Books

_GRACE_S = 5
_LATE_S = 0.05
_KEEP_ALIVE_S = 30
_HEADER_BYTES = 65_536
_BACKLOG = 1_024
_EVERYWHERE = ("0.0.0.0", "::", "")

_log = logging.getLogger("osprotocol.server")


class CannotListenError(EngineError):
    """The address is taken or not one of this machine's."""

    code = "cannot-listen"

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


class _Server(uvicorn.Server):
    """uvicorn without its handling of signals: those belong to the program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asking = asyncio.create_task(self._end_late_connections())
        try:
            await super().shutdown(sockets)
        finally:
            asking.cancel()

    async def _end_late_connections(self) -> None:
        """Those that uvicorn does not know yet when it asks all to end: it would wait for them in vain."""
        while True:
            await asyncio.sleep(_LATE_S)
            for connection in list(self.server_state.connections):
                transport: asyncio.Transport | None = getattr(connection, "transport", None)
                if transport is not None and not transport.is_closing():
                    connection.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        CannotListenError: the port is in use, or the address is not one of this machine's.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        # With its protocol named, asyncio turns Nagle's algorithm off, which holds answers back for 40 ms.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(_BACKLOG)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
        return made
    except OSError as error:
        detail = f"cannot be listened on ({error.strerror or error})"
        if error.errno == errno.EADDRINUSE:
            detail = "is in use by another program; choose another with --port, or 0 for a free one"
        elif error.errno == errno.EACCES:
            detail = "may not be used by this user; choose one above 1023 with --port"
        raise CannotListenError(f"{host}:{port}", detail) from None


@asynccontextmanager
async def serving(client: Client, books: Books, settings: ServerSettings) -> AsyncIterator[ServerSettings]:
    """Serve while the block lasts; gives the settings with the port that was taken.

    Leaving it ends the live streams, lets other requests finish for a grace time and closes the port. The client and
    the books stay open.

    Raises:
        CannotListenError: the port is in use.
        InvalidOptionError: it would not be safe, for example because nobody could sign in; see `check_start`.
    """
    for told in check_start(settings, books, [books._engine.store.path]):
        _log.warning("%s", told)
    taken = listen(settings.host, settings.port)
    settings = replace(settings, port=taken.getsockname()[1])
    if settings.host.strip("[]") in _EVERYWHERE:  # what `address_of` tells has to be answered
        mine = f"{socket.gethostname()}:{settings.port}"
        settings = replace(settings, allow_hosts=(*settings.allow_hosts, mine))
    app = create_app(client, books, settings)
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,  # it would have query strings; the guard writes one without
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        h11_max_incomplete_event_size=_HEADER_BYTES,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[taken]))
    try:
        waiting = asyncio.create_task(server.ready.wait())
        await asyncio.wait((waiting, running), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            running.result()
        yield settings
    finally:
        # First the streams: they would keep their connections, and the server waiting for them, open.
        await app.state.serving.hub.close()
        server.should_exit = True
        await asyncio.gather(running, return_exceptions=True)
        taken.close()


def address_of(settings: ServerSettings) -> str:
    """What a person types into a browser."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    host = settings.host.strip("[]")
    if host in _EVERYWHERE:
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
