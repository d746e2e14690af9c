"""The client of the chaos run: a connection with a copy of its own, dropped and opened anew while people use it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from osprotocol import Client, connect
from osprotocol.errors import EngineError, NoClientError
from osprotocol.testing.client import drop
from tests.restate.ledger_file import note

T = TypeVar("T")

_AGAIN_S = 0.25
_TICK_S = 0.05


class Member:
    """Whoever starts, answers and steers runs, from a process that works on none.

    Args:
        url: of the ledger.
        folder: where the copies are made.

    Attributes:
        copies: every copy that was made, the newest last.
        slowest_s: the longest time that something took until it was acknowledged, by what it was.
        repeated: how often something had to be asked again, by what it was and why.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.copies: list[Path] = []
        self.slowest_s: dict[str, float] = defaultdict(float)
        self.repeated: Counter[str] = Counter()
        self._url = url
        self._folder = folder
        self._client: Client | None = None
        self._is_open = asyncio.Event()
        self._asking: set[asyncio.Future[Any]] = set()

    async def open(self) -> None:
        """Connect with a new copy; asks again until it works."""
        begun = time.monotonic()
        while not self._is_open.is_set():
            copy = self._folder / f"client-{len(self.copies)}.db"
            self.copies.append(copy)
            client = connect(f"{self._url}&replica={quote(str(copy))}", worker=False)
            try:
                await client.open()
            except EngineError as error:
                self.repeated[f"connect: {type(error).__name__}"] += 1
                await asyncio.sleep(_AGAIN_S)
                continue
            self._client = client
            self._is_open.set()
        self.slowest_s["connect"] = max(self.slowest_s["connect"], time.monotonic() - begun)

    async def close(self, *, abruptly: bool = False) -> None:
        """Let go of the connection; abruptly as if the process had died."""
        client, self._client = self._client, None
        self._is_open.clear()
        begun = time.monotonic()
        if client is not None and abruptly:
            for asking in list(self._asking):
                asking.cancel()
            await drop(client._engine)
        elif client is not None:
            await client.close()
        self.slowest_s["close"] = max(self.slowest_s["close"], time.monotonic() - begun)

    async def reopen(self, *, abruptly: bool) -> None:
        """Drop the connection in the middle of whatever is asked, and open another one with another copy."""
        await self.close(abruptly=abruptly)
        await self.open()
        note("fault", what="client", target=str(self.copies[-1].name), abruptly=abruptly)

    async def insist(self, what: str, act: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Do something; when the ground gives way, do the same again until it is answered."""
        begun = time.monotonic()
        while True:
            await self._is_open.wait()
            client = self._client
            if client is None:
                continue
            asking = asyncio.ensure_future(act(client))
            self._asking.add(asking)
            try:
                await asyncio.wait([asking])
            finally:
                self._asking.discard(asking)
                asking.cancel()
            error = asyncio.CancelledError() if asking.cancelled() else asking.exception()
            if error is None:
                self.slowest_s[what] = max(self.slowest_s[what], time.monotonic() - begun)
                return asking.result()
            if not isinstance(error, EngineError | NoClientError | asyncio.CancelledError):
                raise error
            self.repeated[f"{what}: {type(error).__name__}"] += 1
            await asyncio.sleep(_AGAIN_S)

    async def watch_loop(self) -> None:
        """Measure for how long the event loop stands still, which no client may let it."""
        while True:
            begun = time.monotonic()
            await asyncio.sleep(_TICK_S)
            stalled_s = time.monotonic() - begun - _TICK_S
            self.slowest_s["event loop"] = max(self.slowest_s["event loop"], stalled_s)

    async def look(self, run_id: str) -> Any:
        """The handle to a run, as this copy has it now."""
        return await self.insist("get", lambda client: client.get(run_id))
