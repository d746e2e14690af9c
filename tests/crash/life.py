"""An embedded engine that can die: at a chosen commit, or whenever a test says so, without any cleanup.

Death here means what it means for a process: from one instant on nothing is committed, nobody is told anything, the
connections close, the worker's lock is free and its row still says "alive". The next life opens the same file.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from osprotocol import client as clients
from osprotocol._clock import Clock
from osprotocol._embedded import locks
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.machine import Machine
from osprotocol._embedded.store import Group, Operation, Store
from osprotocol._embedded.upstream import Upstream
from osprotocol._ids import Ids
from osprotocol.client import Client
from osprotocol.engine import Engine
from tests.crash.clock import ManualClock

T = TypeVar("T")

_QUIET_ROUNDS = 3
_PATIENCE_ROUNDS = 400


class Died(Exception):
    """The process is dead: what was awaited of it never comes."""


class MortalStore(Store):
    """The real store, with a hook at the one place where every commit of a process goes through."""

    life: Life

    def begin_at_once(self, operations: list[Operation]) -> bool:
        return True  # `commit` begins, unless its process dies before

    def commit(self, operations: list[Operation]) -> Group:
        if self.life.is_dead:
            return Group([])
        self.life.commits += 1
        last = self.life.commits == self.life.dies_at
        if last and not self.life.dies_after:
            self.life.stop()
            return Group([])
        group = super().commit(operations)
        if last:
            self.life.stop()
            return Group([])
        return group


class Life:
    """One process's life with a database, from opening to death or close.

    Args:
        path: the database.
        clock: the time; shared by all lives.
        dies_at: number of the commit, from 1, at which the process dies; 0 for never.
        dies_after: whether that commit still reaches the file.
        linger_ms: how long a waiting run stays in memory; 0 unwinds it at every wait.
    """

    def __init__(
        self,
        path: Path,
        clock: ManualClock,
        *,
        dies_at: int = 0,
        dies_after: bool = False,
        linger_ms: int = 60_000,
        worker: bool = True,
        ids: Ids | None = None,
    ) -> None:
        self.path = path
        self.clock = clock
        self.dies_at = dies_at
        self.dies_after = dies_after
        self.commits = 0
        self.is_dead = False
        self._linger_ms = linger_ms
        self._worker = worker
        self._ids = ids
        self._loop = asyncio.get_running_loop()
        self._death = asyncio.Event()
        self._others = asyncio.all_tasks()
        self.engine: EmbeddedEngine | None = None
        self.client = Client(self._open)

    async def _open(self) -> Engine:
        engine = EmbeddedEngine(
            self.path,
            durability="off",
            clock=self.clock,
            linger_ms=self._linger_ms,
            ids=self._ids,
            machine=MortalMachine(self),
        )
        self.engine = engine
        await engine.begin(worker=self._worker, log_level=logging.INFO)
        return engine

    def stop(self) -> None:
        """The instant of death; called on any thread."""
        self.is_dead = True
        self._loop.call_soon_threadsafe(self._death.set)

    async def until_death(self, doing: Awaitable[T]) -> T:
        """The outcome of something that this process does.

        Raises:
            Died: the process died before.
        """
        task = asyncio.ensure_future(doing)
        death = asyncio.ensure_future(self._death.wait())
        try:
            await asyncio.wait((task, death), return_when=asyncio.FIRST_COMPLETED)
            if self.is_dead or not task.done():
                raise Died
            return task.result()
        finally:
            for one in (task, death):
                one.cancel()
            await asyncio.wait((task, death))
            if not task.cancelled():
                task.exception()

    # ------------------------------------------------------------------ standing still

    @property
    def _is_still(self) -> bool:
        engine = self.engine
        assert engine is not None
        return (
            engine.writer.is_idle
            and not engine.worker._tasks
            and not engine.hooks._runners
            and all(attempt.is_still or attempt.unwinding for attempt in engine.worker.attempts.values())
        )

    async def settle(self) -> bool:
        """Let the loop go on until the engine has nothing to do by itself; False when it still has after a while.

        Raises:
            Died: the process is dead, or dies meanwhile.
        """
        quiet = 0
        for _ in range(_PATIENCE_ROUNDS):
            writer = self.engine.writer if self.engine is not None else None
            await asyncio.sleep(0.0005 if writer is not None and writer._in_flight else 0)
            if self.is_dead:
                raise Died
            quiet = quiet + 1 if self._is_still else 0
            if quiet >= _QUIET_ROUNDS:
                return True
        return False

    # ------------------------------------------------------------------ ending

    async def die(self) -> None:
        """Drop the engine as a killed process would: nothing is parked, said or committed."""
        self.is_dead = True
        self.clock.forget()
        if self.client in clients._clients:
            clients._clients.remove(self.client)
        engine = self.engine
        if engine is None:
            return
        self._silence(engine)
        for attempt in list(engine.worker.attempts.values()):
            attempt.fence()
        await _end(asyncio.all_tasks() - self._others)
        writer = engine.writer
        writer._stopping = True
        await writer._lane.close()
        if engine.worker._executor is not None:
            engine.worker._executor.shutdown(wait=False, cancel_futures=True)
        engine._closed = True
        engine.store.close()
        for waiting in engine._everything:
            waiting.set()

    def _silence(self, engine: EmbeddedEngine) -> None:
        engine.worker.accepts = False
        engine._poll.stop()
        engine.timers.stop()
        engine.run_logs._waiting.clear()
        engine._unattend()
        membership = engine._membership
        if membership is not None:
            membership._stopped = True
            if membership._handle is not None:
                membership._handle.cancel()
            if membership._lock is not None:
                _drop_lock(membership._lock)

    async def close(self) -> None:
        """End as a process does that leaves the client's block."""
        await self.client.close()
        self.clock.forget()


class MortalMachine(Machine):
    """A machine whose disk takes nothing of the dead."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def open_store(
        self, path: Path, clock: Clock, durability: str, vfs: str | None, upstream: Upstream | None
    ) -> Store:
        store = MortalStore(path, clock, durability, vfs, upstream)
        store.life = self._life
        return store

    def watch_file(self, path: Path) -> None:
        """One process lives at a time: nobody else writes. And to end a watch takes longer than most lives."""


def _drop_lock(lock: locks.WorkerLock) -> None:
    """What the operating system does with a dead process's lock: it is free, its file stays."""
    if lock._descriptor >= 0:
        os.close(lock._descriptor)
        locks._held_here.discard(str(lock.path))
        lock._descriptor = -1


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    left = tasks - {asyncio.current_task()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.05)


async def live(life: Life, script: Callable[[Life], Awaitable[T]]) -> T | None:
    """Open, follow the script to its end and close; None when the process died on the way, and it is buried then."""
    try:
        await life.until_death(life.client.open())
        outcome = await life.until_death(script(life))
        await life.until_death(life.close())
        return outcome
    except Died:
        await life.die()
        return None
    except BaseException:
        await life.die()
        raise
