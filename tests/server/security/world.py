"""A server in this process for the security tests: people, tokens, a few runs, and hands to call it with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import httpx2
from fastapi import FastAPI

from osprotocol import ApprovalConfig, Context, TerminalError, testing, workflow
from osprotocol._clock import to_datetime
from osprotocol._embedded.books import Books
from osprotocol.protocol.request import Request
from osprotocol.server.app import create_app
from osprotocol.server.passwords import hash_password
from osprotocol.server.settings import ServerSettings
from osprotocol.testing.client import VirtualClient

BASE = "http://127.0.0.1:8321"
PASSWORD = "correct horse battery staple"
ROLES = ("viewer", "operator", "approver", "admin")
OURS = {"Origin": BASE}


@workflow(name="guarded")
async def guarded(ctx: Context, topic: str) -> str:
    approval = await ctx.wait_for_approval(f"Publish {topic}?", payload={"topic": topic})
    return "published" if approval.approved else "dropped"


@workflow(name="guarded-by-name")
async def guarded_by_name(ctx: Context, names: list[str]) -> str:
    approval = await ctx.wait_for_approval("Go?", ApprovalConfig(approvers=tuple(names)))
    return str(approval.approved)


@workflow(name="secluded")
async def secluded(ctx: Context, topic: str) -> str:
    approval = await ctx.wait_for_approval(f"Publish {topic}?", payload={"topic": topic})
    return "published" if approval.approved else "dropped"


@workflow(name="echoing")
async def echoing(ctx: Context, value: Any) -> Any:
    ctx.log("echo", value=value)
    return value


@workflow(name="breaking")
async def breaking(ctx: Context, text: str) -> str:
    ctx.log(f"about to fail with {text}")
    raise TerminalError(f"cannot use {text}")


@cache
def password_hash() -> str:
    """Made once: it takes long, as it should."""
    return hash_password(PASSWORD)


@dataclass
class World:
    """A running server.

    Attributes:
        secrets: of the token of each person, by name.
    """

    client: VirtualClient
    books: Books
    app: FastAPI
    secrets: dict[str, str] = field(default_factory=dict)

    def http(self, person: str | None = None, address: str = "127.0.0.1") -> httpx2.AsyncClient:
        """A program; with a person's name it sends that person's token."""
        headers = {} if person is None else {"Authorization": f"Bearer {self.secrets[person]}"}
        transport = httpx2.ASGITransport(app=self.app, client=(address, 40_000), raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers)

    async def browser(self, person: str, address: str = "127.0.0.1") -> httpx2.AsyncClient:
        """A browser in which somebody is signed in; it sends the token of its pages with every call."""
        browser = self.http(address=address)
        link = await self.books.open_link(person, self.now + timedelta(minutes=5))
        answer = await browser.post("/sign-in", data={"code": link}, headers=OURS)
        assert answer.status_code == 303, answer.text
        browser.headers.update(OURS | {"X-CSRF-Token": await self.csrf(browser)})
        return browser

    async def csrf(self, browser: httpx2.AsyncClient) -> str:
        """The token of the pages of a browser."""
        page = (await browser.get("/inbox")).text
        return page.split('name="csrf" value="')[1].split('"')[0]

    @property
    def now(self) -> Any:
        return to_datetime(self.client.clock.now())

    async def add_person(self, name: str, *roles: str, password: bool = False) -> None:
        """A person with a token of all their roles."""
        await self.books.add_user(name, roles, password_hash=password_hash() if password else None, by="setup")
        _, self.secrets[name] = await self.books.add_token(name, "test", roles, by="setup")

    async def add_token(self, key: str, user: str, *roles: str, workflows: list[str] | None = None) -> str:
        """A further token, used by `http(key)`; gives its id."""
        token, self.secrets[key] = await self.books.add_token(user, key, roles, workflows=workflows, by="setup")
        return token.id

    async def start(self, person: str, name: str, value: Any) -> str:
        """Start a run for a person over HTTP and wait until it stands still; gives its id."""
        async with self.http(person) as http:
            answer = await http.post("/api/v1/runs", json={"workflow": name, "input": value})
        assert answer.status_code == 201, answer.text
        await self.client.clock.settle()
        return str(answer.json()["id"])

    async def question(self, run_id: str) -> Request:
        """The open request of a run."""
        return (await self.client.requests(run_id=run_id)).items[0]

    async def actions(self) -> list[str]:
        """What the audit log holds, oldest first."""
        return [entry.action for entry in reversed(self.books.audit(limit=200))]


@asynccontextmanager
async def world(settings: ServerSettings | None = None, **named: Any) -> AsyncIterator[World]:
    """A server with one person for each role, named after it: ``viewer``, ``operator``, ``approver``, ``admin``."""
    async with testing.connect(autojump=False, **named) as client:
        books = await Books.open(client._engine)  # type: ignore[arg-type]
        made = World(client, books, create_app(client, books, settings or ServerSettings()))
        for role in ROLES:
            await made.add_person(role, role)
        yield made
        await made.app.state.serving.hub.close()
        await books.close()


class RawStream:
    """A live stream, called without an HTTP client, which would wait for its end."""

    def __init__(self, app: Any, path: str, headers: dict[str, str]) -> None:
        self.status = 0
        self.received = b""
        self.ended = asyncio.Event()
        self._news = asyncio.Event()
        self._leave = asyncio.Event()
        self._body_sent = False
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1:8321"), (b"accept", b"text/event-stream"), *raw],
            "client": ("127.0.0.1", 40_001),
            "server": ("127.0.0.1", 8321),
        }
        self._task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: Any, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            self.ended.set()
            self._news.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._body_sent:
            self._body_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.received += message.get("body", b"")
        self._news.set()

    async def until(self, wanted: bytes) -> None:
        """Wait until something was received."""
        while wanted not in self.received and not self.ended.is_set():
            self._news.clear()
            await self._news.wait()
        assert wanted in self.received, self.received

    async def close(self) -> None:
        """Go away."""
        self._leave.set()
        await asyncio.gather(self._task, return_exceptions=True)
