"""Browser sessions: the cookie, how long it is good for, and how everybody learns that it ended."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from starlette.responses import Response

from osprotocol._clock import US_PER_S, Clock, to_datetime
from osprotocol.errors import StoreError
from osprotocol.server.settings import ServerSettings

if TYPE_CHECKING:
    from osprotocol._embedded.books import Books

ABSOLUTE = timedelta(days=7)
IDLE = timedelta(hours=12)
LINK = timedelta(minutes=30)
"""How long a sign-in link can be used."""
_CACHE_US = US_PER_S
_CACHED = 10_000


class Revocations:
    """Tells streams that somebody's rights changed, so that they ask again at once.

    Attributes:
        generation: grows with every change.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._changed = asyncio.Event()

    def announce(self) -> None:
        """Rights changed: a session or token ended, a person got other roles."""
        self.generation += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, generation: int) -> int:
        """Return the current generation as soon as it is not the given one."""
        while self.generation == generation:
            await self._changed.wait()
        return self.generation


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in.

    Attributes:
        hash: of its cookie; names the session.
        name: of the person.
        roles: of the person.
    """

    hash: str
    name: str
    roles: tuple[str, ...]


class Sessions:
    """Opens, finds and closes sessions."""

    def __init__(self, books: Books, settings: ServerSettings, clock: Clock, revocations: Revocations) -> None:
        self._books = books
        self._clock = clock
        self._revocations = revocations
        self._secure = (settings.public_url or "").lower().startswith("https:")
        self._port = settings.port
        self._found: OrderedDict[str, tuple[int, int, Session]] = OrderedDict()

    def cookie_name(self, connection: HTTPConnection) -> str:
        """Cookies are shared by all ports of a host, so on plain http the name has the port in it."""
        if self._secure:
            return "__Host-osp_session"
        server = connection.scope.get("server")
        return f"osp_session_{(server[1] if server else None) or self._port}"

    async def find(self, connection: HTTPConnection, *, fresh: bool = False) -> Session | None:
        """The session of a request's cookie; None when it has none that counts.

        Args:
            connection: the request.
            fresh: ask the books, not the memory of the last second.
        """
        secret = connection.cookies.get(self.cookie_name(connection))
        if not secret or len(secret) > 200:
            return None
        now = self._clock.now()
        cached = self._found.get(secret)
        if cached is not None and not fresh:
            generation, at, session = cached
            if generation == self._revocations.generation and 0 <= now - at < _CACHE_US:
                return session
        self._found.pop(secret, None)
        row = self._books.find_session(secret)
        if row is None:
            return None
        moment = to_datetime(now)
        if moment - row.seen_at >= IDLE or moment - row.created_at >= ABSOLUTE:
            with suppress(StoreError):
                await self._books.close_session(row.hash)
            return None
        with suppress(StoreError):  # what can be read is shown while nothing can be written
            await self._books.touch_session(row.hash)
        session = Session(row.hash, row.user.name, row.user.roles)
        self._found[secret] = (self._revocations.generation, now, session)
        while len(self._found) > _CACHED:
            self._found.popitem(last=False)
        return session

    async def open(self, connection: HTTPConnection, response: Response, name: str) -> None:
        """Sign somebody in: the browser gets a new cookie, the session that it had before ends.

        Survives a crash: the session is stored before the cookie is sent.
        """
        await self._end_of(connection)
        secret = await self._books.open_session(name, to_datetime(self._clock.now()) + ABSOLUTE)
        response.set_cookie(
            self.cookie_name(connection),
            secret,
            max_age=ABSOLUTE // timedelta(seconds=1),
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )

    async def close(self, connection: HTTPConnection, response: Response) -> None:
        """Sign out: the session ends, its streams too, and the browser forgets its cookie."""
        await self._end_of(connection)
        response.delete_cookie(
            self.cookie_name(connection), path="/", secure=self._secure, httponly=True, samesite="strict"
        )

    async def _end_of(self, connection: HTTPConnection) -> None:
        before = await self.find(connection, fresh=True)
        if before is not None:
            await self._books.close_session(before.hash)
            self._found.clear()
            self._revocations.announce()
