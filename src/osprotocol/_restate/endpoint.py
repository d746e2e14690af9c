"""The endpoint: serves the ledger's handlers to Restate, beside whatever else this process does.

Over HTTP/1.1, call by call: the handlers need nothing from Restate while they run, so the streams of HTTP/2 would only
cost. Every moment that this thread computes, the threads that work on runs wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import restate
import uvicorn

from osprotocol._restate.address import Address, bracketed
from osprotocol.errors import EngineError

_BACKLOG: Final = 256
# Restate closes an idle connection after 5 min. It should be the one that does, so that no call meets a closed one.
_IDLE_S: Final = 900
_GRACE_S: Final = 0.5
_AGAIN_S: Final = (0.1, 0.1, 0.3)
_JOIN_S: Final = 3.0
_log = logging.getLogger("osprotocol.restate")


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listens()


class Endpoint:
    """Serves services to Restate in a thread with an event loop of its own; `join` gives the one of the process.

    Args:
        services: what is served.
        host: where to listen.
        port: the same; 0 is a free one.
        uri: where Restate finds it; None: where it listens.
        identity_keys: with any, what is not signed with one of them is refused.

    Attributes:
        uri: where Restate finds it; complete once it has started.
    """

    def __init__(
        self,
        services: Iterable[restate.VirtualObject],
        host: str,
        port: int = 0,
        *,
        uri: str | None = None,
        identity_keys: Iterable[str] = (),
    ) -> None:
        self.uri = uri or ""
        self._place = host, port
        self._app: Any = restate.app(services, identity_keys=list(identity_keys))
        self._loop = asyncio.new_event_loop()
        self._calls: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="osprotocol-endpoint", daemon=True)
        self._ready, self._stopping = threading.Event(), asyncio.Event()
        self._socket = -1
        self._trouble: BaseException | None = None

    @property
    def is_serving(self) -> bool:
        """Whether it serves now."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Serve; returns when it does.

        Raises:
            EngineError: it cannot listen there.
        """
        host, port = self._place
        where = f"{bracketed(host)}:{port}"
        listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            self._loop.close()
            why = f"the endpoint cannot listen there ({error.strerror or error})"
            raise EngineError(where, f"{why}; choose another port: endpoint=http://HOST:PORT") from None
        self.uri = self.uri or f"http://{bracketed(host)}:{listening.getsockname()[1]}"
        self._socket = listening.detach()  # the server closes it
        self._thread.start()
        self._ready.wait()
        if self._trouble is not None:
            raise EngineError(where, f"the endpoint cannot be served: {self._trouble}") from self._trouble

    def stop(self) -> None:
        """Serve no more. Calls under way have a moment to end; those that do not, Restate makes again elsewhere."""
        if self.is_serving:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - `start` raises it
            self._trouble = error
            if self._ready.is_set():
                _log.error("%s: the endpoint for Restate broke: %r", self.uri, error)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        listening = socket.socket(fileno=self._socket)
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config, self._ready.set)
        serving = self._loop.create_task(server.serve(sockets=[listening]))
        stopping = self._loop.create_task(self._stopping.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for patience_s in (_GRACE_S, *_AGAIN_S):  # the SDK takes the first cancellation for a wish
            if self._calls:
                await asyncio.wait(self._calls, timeout=patience_s)
            for call in list(self._calls):
                call.cancel()
        server.should_exit = server.force_exit = True  # whoever could end has ended
        await serving
        listening.close()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a call; one that breaks off ends without the end that Restate waits for, so that it tries again."""
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        has_begun = False

        async def sending(message: Any) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, Restate asks again
            _log.debug("a call broke off: %r", error)
            if not has_begun:
                await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._calls.discard(call)

    def abandon(self) -> None:
        """In a forked child: close the socket, which would stay open and silent once the parent is gone."""
        os.close(self._socket)


_Place = tuple[str, int, str | None, tuple[str, ...]]
_shared: dict[_Place, tuple[Endpoint, int]] = {}
_lock = threading.Lock()


def join(address: Address, services: Iterable[restate.VirtualObject]) -> Endpoint:
    """The endpoint of this process for an address, started by the first who asks; give it back with `leave`.

    Raises:
        EngineError: it cannot listen where it should.
    """
    host, port = _listening(address)
    place = host, port, address.endpoint, address.identity_keys
    with _lock:
        endpoint, users = _shared.get(place, (None, 0))
        if endpoint is None or not endpoint.is_serving:
            endpoint = Endpoint(services, host, port, uri=address.endpoint, identity_keys=address.identity_keys)
            endpoint.start()
        _shared[place] = endpoint, users + 1
        return endpoint


def leave(endpoint: Endpoint, before_stop: Callable[[], object] = lambda: None) -> None:
    """Need an endpoint no more; the last one stops it, after `before_stop`."""
    with _lock:
        for place, (shared, users) in list(_shared.items()):
            if shared is endpoint:
                if users > 1:
                    _shared[place] = shared, users - 1
                    return
                del _shared[place]
        before_stop()
        endpoint.stop()


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    for endpoint, _ in _shared.values():
        endpoint.abandon()
    _shared.clear()


os.register_at_fork(after_in_child=_forget)


def _listening(address: Address) -> tuple[str, int]:
    if address.endpoint is None:
        return own_host(address.ingress[0]), 0
    told = urlsplit(address.endpoint)
    host = told.hostname or ""
    if host not in ("localhost", "127.0.0.1", "::1"):
        host = "::" if ":" in host else "0.0.0.0"  # the name need not be one of this machine
    return host, told.port or 0


def own_host(url: str) -> str:
    """The address at which a host sees this machine.

    Raises:
        EngineError: the host has no address, or there is no way to it.
    """
    parts = urlsplit(url)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise EngineError(url, f"there is no way to this host ({error.strerror or error})") from None
