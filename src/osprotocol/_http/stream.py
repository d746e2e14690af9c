"""The one live connection of a client: opened while somebody listens, opened again whenever it was cut."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from pydantic_core import from_json

from osprotocol._http.calls import Calls
from osprotocol.errors import (
    EngineClosedError,
    NotPermittedError,
    NotSignedInError,
    OSProtocolError,
    UnreachableError,
)

_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# How long nobody has to listen before the connection is given up: handles come and go.
_LINGER_S = 5.0
_SETTLES_S = 0.5
_log = logging.getLogger("osprotocol")


class Message(NamedTuple):
    """One message of a live stream."""

    kind: str
    id: str | None
    data: str


class Stream:
    """Everything that happens on a server, as it happens.

    Args:
        calls: to the server.
        is_wanted: whether anybody listens.
        on_message: told each message.
        on_open: called whenever the stream begins to tell, and now and then while the server answers but gives no
            stream: what happened before has to be read.
        on_refused: called when the server does not let us listen any more.

    Attributes:
        is_open: what happens from now on is told.
        position: cursor of the newest event that was told, or of the one before the stream began.
    """

    def __init__(
        self,
        calls: Calls,
        is_wanted: Callable[[], bool],
        on_message: Callable[[str, Any], None],
        on_open: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        self._calls = calls
        self._is_wanted = is_wanted
        self._on_message = on_message
        self._on_open = on_open
        self._on_refused = on_refused
        self._task: asyncio.Task[None] | None = None
        self._resumes = False
        self._connecting: asyncio.Future[None] | None = None
        self.is_open = False
        self.position = 0

    def ensure(self) -> None:
        """Listen, now that somebody wants to."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="osprotocol live stream")

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            if self._connecting is not None:
                # A connection that is made in the instant in which its task is cancelled would be lost, and stay open.
                both = (self._task, self._connecting)
                await asyncio.wait(both, timeout=_SETTLES_S, return_when=asyncio.FIRST_COMPLETED)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        failures = 0
        while self._is_wanted():
            told = ""
            try:
                await self._listen_once()
            except EngineClosedError:
                return
            except (NotSignedInError, NotPermittedError) as error:
                told = str(error)
                self._on_refused()
            except UnreachableError as error:
                told = str(error)
            except (OSProtocolError, ValueError, TypeError, LookupError, AttributeError) as error:
                told = str(error)
                self._on_open()  # there is a server, so it can be asked
            finally:
                was_open, self.is_open = self.is_open, False
            failures = 0 if was_open else failures + 1
            if failures == len(_PAUSES_S):
                _log.warning("live events are not coming, still trying: %s", told or "the stream ends at once")
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
        self._resumes = False  # who listens next has no use for what happened until then

    async def _listen_once(self) -> None:
        """Listen until the stream ends or nobody wants it any more."""
        self._connecting = connecting = asyncio.get_running_loop().create_future()
        try:
            await self._listen_connected(connecting)
        finally:
            self._connecting = None

    async def _listen_connected(self, connecting: asyncio.Future[None]) -> None:
        if not self._resumes:
            newest = await self._calls.get("/events", {"newest": "true", "limit": 1}, patient=False)
            self.position = int(newest["nextCursor"] or 0)
        headers = {"Last-Event-ID": str(self.position)}
        async with self._calls.stream("/events", {}, headers) as chunks:
            connecting.set_result(None)
            self.is_open = self._resumes = True
            self._on_open()
            leaving = asyncio.create_task(self._leave_when_unwanted())
            reading = asyncio.create_task(self._read(chunks))
            try:
                await asyncio.wait((leaving, reading), return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    await reading
            finally:
                for task in (leaving, reading):
                    task.cancel()
                await asyncio.gather(leaving, reading, return_exceptions=True)

    async def _leave_when_unwanted(self) -> None:
        unwanted = 0
        while unwanted < 2:
            await asyncio.sleep(_LINGER_S / 2)
            unwanted = 0 if self._is_wanted() else unwanted + 1

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        async for message in messages(chunks):
            if message.kind == "reset":
                self._resumes = False  # what was missed is not to be had here: read everything anew
                return
            if message.id:
                with contextlib.suppress(ValueError):
                    self.position = max(self.position, int(message.id))
            if message.data:
                self._on_message(message.kind, from_json(message.data))


async def messages(chunks: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    """The messages in the bytes of a live stream; one that was cut off at the end is none."""
    kind, number = "message", None
    data: list[str] = []
    async for line in _lines(chunks):
        if not line:
            if data or number is not None:
                yield Message(kind, number, "\n".join(data))
            kind, number, data = "message", None, []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "id":
            number = value
        elif name == "data":
            data.append(value)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Lines by line feed only: text of a run may hold every other kind of line break."""
    left: list[bytes] = []
    async for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            left.append(line)
            yield b"".join(left).removesuffix(b"\r").decode("utf-8", "replace")
            left.clear()
        left.append(rest)
