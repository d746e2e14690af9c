"""`connect`: a client on a database of its own, with virtual time, that cleans up after itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from osprotocol._ids import Ids
from osprotocol.client import Client
from osprotocol.connect import connect as _connect
from osprotocol.engine import Engine
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


class VirtualClient(Client):
    """A client for tests. Made by `testing.connect`; use it with ``async with``.

    Attributes:
        clock: its time.
        people: who answers its questions.
        ids: where its ids come from.
    """

    def __init__(
        self, *, clock: VirtualClock, people: People, ids: Ids, path: Path | None, settings: dict[str, Any]
    ) -> None:
        super().__init__(self._open_engine_here)
        self.clock = clock
        self.people = people
        self.ids = ids
        self._path = path
        self._settings = settings
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._detach: Callable[[], None] | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def path(self) -> Path:
        """The database; removed with the client if it was made for it."""
        assert self._path is not None, "the client is not connected yet"
        return self._path

    async def _open_engine_here(self) -> Engine:
        if self._path is None:
            self._folder = tempfile.TemporaryDirectory(prefix="osprotocol-test-")
            self._path = Path(self._folder.name) / "runs.db"
        settings = {**self._settings, "durability": "off", "clock": self.clock, "ids": self.ids}
        return await _connect(self._path, **settings)._open_engine()

    async def open(self) -> Self:
        """Connect; `async with` does it."""
        await super().open()
        if self._detach is None:
            self._detach = self.clock.attach(_Activity(self._engine, self.people))
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
        client of the same database, ``testing.connect(beside=client)``, then takes the runs over.
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
    if engine._watchdog is not None:
        engine._watchdog.stop()
    engine._remove_logging()
    await engine.writer.close()
    if engine.worker._executor is not None:
        engine.worker._executor.shutdown(wait=False, cancel_futures=True)
    engine._closed = True
    engine.store.close()


def connect(
    *,
    people: People | None = None,
    clock: VirtualClock | None = None,
    autojump: bool = True,
    always_park: bool = False,
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
        path: the database; without one, a temporary one that is removed with the client.
        beside: share the database, the clock and the ids of that client, as a second process would.
        seed: of the ids.
        worker: as in `osprotocol.connect`.
        concurrency: as in `osprotocol.connect`.
        log_level: as in `osprotocol.connect`.
        linger_ms: as in `osprotocol.connect`.
    """
    if beside is not None:
        clock, ids, path = beside.clock, beside.ids, beside.path
    else:
        clock, ids = clock or VirtualClock(autojump=autojump), Ids(seed)
    settings = {
        "worker": worker,
        "concurrency": concurrency,
        "log_level": log_level,
        "linger_ms": 0 if always_park else linger_ms,
    }
    return VirtualClient(clock=clock, people=people or People(), ids=ids, path=path, settings=settings)
