"""`connect`: a client on a database or a copy of its own, with virtual time, that cleans up after itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from osprotocol._ids import Ids
from osprotocol.client import Client
from osprotocol.connect import connect as _connect
from osprotocol.engine import Engine
from osprotocol.errors import InvalidOptionError
from osprotocol.testing.clock import VirtualClock
from osprotocol.testing.people import People


class _Activity:
    """An embedded engine and its people as a clock looks at them: what is queued, what executes, how often it moved."""

    def __init__(self, engine: Any, people: People) -> None:
        self._engine = engine
        self._people = people

    @property
    def is_idle(self) -> bool:
        return bool(self._engine.writer.is_idle) and self._people.is_idle

    @property
    def is_quiet(self) -> bool:
        worker, hooks = self._engine.worker, self._engine.hooks
        return self.is_idle and not worker.executing and not worker._tasks and not hooks._runners

    @property
    def moves(self) -> int:
        return int(self._engine.writer.round) + self._people.moves


class _MemberActivity(_Activity):
    """The same for a member of a ledger: nothing is calm while a member's entry is on its way to another's copy.

    Args:
        copies: of all members that share the clock.
    """

    def __init__(self, engine: Any, people: People, copies: list[Any]) -> None:
        super().__init__(engine, people)
        self._copies = copies

    @property
    def is_idle(self) -> bool:
        return super().is_idle and not self._is_behind

    @property
    def _is_behind(self) -> bool:
        engine = self._engine
        if engine._replica.reached < max(copy.reached for copy in self._copies):
            return True
        return bool(engine._is_interested() and engine.store.is_behind())

    @property
    def moves(self) -> int:
        return super().moves + int(self._engine._replica.reached)


class VirtualClient(Client):
    """A client for tests. Made by `testing.connect`; use it with ``async with``.

    Attributes:
        clock: its time.
        people: who answers its questions.
        ids: where its ids come from.
        url: of the ledger; None for a database.
    """

    def __init__(
        self,
        *,
        clock: VirtualClock,
        people: People,
        ids: Ids,
        url: str | None,
        path: Path | None,
        copies: list[Any],
        settings: dict[str, Any],
    ) -> None:
        super().__init__(self._open_engine_here)
        self.clock = clock
        self.people = people
        self.ids = ids
        self.url = url
        self._path = path
        self._copies = copies
        self._settings = settings
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._detach: Callable[[], None] | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def path(self) -> Path:
        """The database, or the copy of the ledger; removed with the client if it was made for it."""
        assert self._path is not None, "the client is not connected yet"
        return self._path

    async def _open_engine_here(self) -> Engine:
        if self._path is None:
            self._folder = tempfile.TemporaryDirectory(prefix="osprotocol-test-")
            self._path = Path(self._folder.name) / "runs.db"
        settings = {**self._settings, "durability": "off", "clock": self.clock, "ids": self.ids}
        place = self._path if self.url is None else _with_copy(self.url, self._path)
        return await _connect(place, **settings)._open_engine()

    def _activity(self) -> _Activity:
        engine: Any = self._engine
        if self.url is None:
            return _Activity(engine, self.people)
        self._copies.append(engine._replica)
        return _MemberActivity(engine, self.people, self._copies)

    async def open(self) -> Self:
        """Connect; `async with` does it."""
        try:
            await super().open()
        except BaseException:
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = self._path = None
            raise
        if self._detach is None:
            self._detach = self.clock.attach(self._activity())
            self._serving = asyncio.get_running_loop().create_task(self.people.serve(self, self.clock))
        return self

    async def _leave(self) -> None:
        if self._detach is not None:
            self._detach()
            self._detach = None
        if self._serving is not None:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
            self._serving = None

    async def close(self) -> None:
        """Park what runs, and remove the database if it was made for this client."""
        await self._leave()
        try:
            await super().close()
        finally:
            if self._folder is not None:
                self._folder.cleanup()

    async def crash(self) -> None:
        """End as if the process had died: what is not committed is lost, nothing is parked, nobody says goodbye.

        Code that executes is thrown away; its `finally` blocks run, but no context operation works in them. Another
        client of the same database, ``testing.connect(beside=client)``, then takes the runs over; one with another
        copy of a ledger does so once this one has been silent for long enough.
        """
        await self._leave()
        await drop(self._engine)
        await super().close()


async def drop(engine: Any) -> None:
    """Take an embedded engine out of this process without any of its goodbyes."""
    engine._poll.stop()
    engine.timers.stop()
    engine.worker.accepts = False
    engine._on_group = engine.writer._on_group = lambda group: None
    engine.writer._queue.clear()
    engine.run_logs._waiting.clear()
    membership = engine._membership
    if membership is not None:
        membership._stopped = True
        if membership._handle is not None:
            membership._handle.cancel()
    tasks = [task for attempt in engine.worker.attempts.values() for task in attempt.branches]
    for attempt in list(engine.worker.attempts.values()):
        attempt.fence()
    spawned = [*engine.worker._tasks, *engine.hooks._runners.values()]
    for task in spawned:
        task.cancel()
    await asyncio.gather(*tasks, *spawned, return_exceptions=True)
    engine.run_logs._waiting.clear()
    engine.writer._queue.clear()
    await engine.writer.drain()
    if membership is not None and membership._lock is not None:
        membership._lock.release()
        membership._lock.path.touch()  # a dead process leaves its file
    engine._unattend()
    await engine.writer.close()
    if engine.worker._executor is not None:
        engine.worker._executor.shutdown(wait=False, cancel_futures=True)
    engine._closed = True
    engine.store.close()
    if engine.name == "restate":
        await asyncio.to_thread(engine.let_go, goodbye=False)


def _with_copy(url: str, path: Path) -> str:
    return f"{url}{'&' if '?' in url else '?'}replica={quote(str(path))}"


def connect(
    *,
    people: People | None = None,
    clock: VirtualClock | None = None,
    autojump: bool = True,
    always_park: bool = False,
    url: str | None = None,
    path: Path | None = None,
    beside: VirtualClient | None = None,
    seed: int = 0,
    worker: bool = True,
    concurrency: int = 100,
    log_level: int = logging.INFO,
    linger_ms: int | None = None,
) -> VirtualClient:
    """A client on a fresh temporary database, with virtual time and repeatable ids; use it with ``async with``.

    Args:
        people: who answers; nobody by default.
        clock: the time; without one, a new `VirtualClock`.
        autojump: whether that new clock jumps to the next timer when nothing else happens. Give False to move time
            with ``client.clock.advance(...)`` only.
        always_park: every wait unwinds the workflow's code, which then comes back by replay: shows at once what is
            not deterministic outside of steps.
        url: a ledger on Restate instead of a database: a ``restate:`` URL. Its runs stay there; a later client of the
            same ledger needs another `seed`.
        path: the database, or with a `url` the copy of the ledger; without one, a temporary one that is removed with
            the client.
        beside: share the database, the clock and the ids of that client, as a second process would. On a ledger the
            copy is shared; give a `path` for another copy, as on a second machine.
        seed: of the ids.
        worker: as in `osprotocol.connect`.
        concurrency: as in `osprotocol.connect`.
        log_level: as in `osprotocol.connect`.
        linger_ms: as in `osprotocol.connect`.

    Raises:
        InvalidOptionError: the URL is none of a ledger.
    """
    if url is not None and not url.startswith("restate:"):
        raise InvalidOptionError("url", f"{url[:80]!r} is no ledger's (restate:...); give path= for a database")
    copies: list[Any] = []
    if beside is not None:
        clock, ids, url, copies = beside.clock, beside.ids, beside.url, beside._copies
        path = path if path is not None and url is not None else beside.path
    else:
        clock, ids = clock or VirtualClock(autojump=autojump), Ids(seed)
    settings = {
        "worker": worker,
        "concurrency": concurrency,
        "log_level": log_level,
        "linger_ms": 0 if always_park else linger_ms,
    }
    return VirtualClient(
        clock=clock, people=people or People(), ids=ids, url=url, path=path, copies=copies, settings=settings
    )
