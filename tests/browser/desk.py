"""A server on a database of its own, and people who look at it with browsers."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request

from osprotocol import Client, Execution, connect
from osprotocol._embedded.books import Books
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol.server.access import Role
from osprotocol.server.serve import serving
from osprotocol.server.settings import ServerSettings

EVERY_ROLE = tuple(role.value for role in Role)
PATIENCE_MS = int(os.environ.get("BROWSER_PATIENCE_MS", "20000"))


@dataclass
class Watch:
    """What no page may do, seen in every browser window of a desk.

    Attributes:
        allowed: texts of console errors that the test brings about itself.
    """

    problems: list[str] = field(default_factory=list)
    allowed: list[re.Pattern[str]] = field(default_factory=list)

    def allow(self, pattern: str) -> None:
        """Expect such errors in the browser's console; the browser tells of every answer of 400 and above there."""
        self.allowed.append(re.compile(pattern))

    def on(self, context: BrowserContext) -> None:
        """Watch every page of a context, those to come as well."""
        context.on("console", self._console)
        context.on("request", self._request)
        context.on("weberror", lambda error: self.problems.append(f"error in the script: {error.error}"))
        context.on("dialog", lambda dialog: self._dialog(dialog.message))

    def _dialog(self, message: str) -> None:
        self.problems.append(f"a dialog opened: {message}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(pattern.search(message.text) for pattern in self.allowed):
            self.problems.append(f"console: {message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob", "about") and address.hostname != "127.0.0.1":
            self.problems.append(f"left the machine: {request.url}")


class Server:
    """Our server on a port of loopback, as `osp serve` runs it; it can be stopped and started again."""

    def __init__(self, client: Client, books: Books) -> None:
        self._client = client
        self._books = books
        self.port = 0
        self._serving = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen on a free port, later on the same one."""
        taken = await self._serving.enter_async_context(
            serving(self._client, self._books, ServerSettings(port=self.port))
        )
        self.port = taken.port

    async def stop(self) -> None:
        """End every stream and close the port."""
        await self._serving.aclose()


@dataclass
class Desk:
    """A running server, its runs and its people.

    Attributes:
        client: works on the runs in this process.
        folder: holds the database.
    """

    client: Client
    books: Books
    server: Server
    browser: Browser
    folder: Path
    watch: Watch = field(default_factory=Watch)
    _contexts: list[BrowserContext] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.folder / "runs.db"

    async def person(self, name: str, roles: tuple[str, ...] = EVERY_ROLE) -> None:
        """Somebody whom the server knows."""
        if self.books.find_user(name) is None:
            await self.books.add_user(name, roles, by="test")

    async def window(self, **options: Any) -> BrowserContext:
        """A browser without any cookies."""
        context = await self.browser.new_context(base_url=self.server.url, **options)
        context.set_default_timeout(PATIENCE_MS)
        self.watch.on(context)
        self._contexts.append(context)
        return context

    async def sign_in(self, name: str = "ada", roles: tuple[str, ...] = EVERY_ROLE, **options: Any) -> Page:
        """A page of a browser in which this person is signed in."""
        await self.person(name, roles)
        context = await self.window(**options)
        secret = await self.books.open_session(name, datetime.now(UTC) + timedelta(hours=1))
        name = f"osp_session_{self.server.port}"
        await context.add_cookies(
            [{"name": name, "value": secret, "url": self.server.url, "httpOnly": True, "sameSite": "Strict"}]
        )
        return await context.new_page()

    async def close(self) -> None:
        for context in self._contexts:
            for page in context.pages:
                with contextlib.suppress(Error):  # a page that is closing already
                    await page.goto("about:blank")  # the browser hangs when it is closed just as a navigation begins
            await context.close()
        await self.server.stop()


@contextlib.asynccontextmanager
async def open_desk(browser: Browser, folder: Path, **settings: Any) -> AsyncIterator[Desk]:
    """Start a server with a worker in this process on a new database in a folder."""
    async with connect(folder / "runs.db", **settings) as client:
        engine = client._engine
        assert isinstance(engine, EmbeddedEngine)
        books = await Books.open(engine)
        server = Server(client, books)
        desk = Desk(client, books, server, browser, folder)
        try:
            await server.start()
            yield desk
        finally:
            await desk.close()
            await books.close()


async def until_open(execution: Execution[Any], count: int = 1) -> None:
    """Wait until a run has that many open requests."""
    if len(execution.requests) < count:
        async for _ in execution.events():
            if len(execution.requests) >= count:
                return
