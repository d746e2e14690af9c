"""A simulated process: an event loop, a clock, an engine, and a death."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from osprotocol import client as clients
from osprotocol._embedded import locks
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._ids import Ids
from osprotocol.client import Client
from osprotocol.engine import Engine
from tests.lab.sim.loop import SimLoop
from tests.lab.sim.machine import Died, SimClock, SimMachine, SimWatch

if TYPE_CHECKING:
    from tests.lab.sim.world import World


class Node:
    """One process of the simulation.

    Attributes:
        held_us: until when it does nothing: stopped by the system, or at work in one piece.
        stopped_us: until when the system last stopped it.
        skew_us: how far its wall clock is from the true time; `furthest_us` how far it ever was.
    """

    def __init__(self, world: World, number: int, *, worker: bool, linger_ms: int, concurrency: int) -> None:
        self.world = world
        self.number = number
        self.worker = worker
        self.is_dead = False
        self.was_evicted = False
        self.held_us = 0
        self.stopped_us = 0
        self.skew_us = self.furthest_us = world.skew_us
        self.commits = 0
        self.watches: dict[int, SimWatch] = {}
        self.loop = SimLoop(self)
        self._linger_ms = linger_ms
        self._concurrency = concurrency
        self.engine: EmbeddedEngine | None = None
        self.client = Client(self._open)
        self.connected = asyncio.Event()
        self.tasks: list[asyncio.Task[Any]] = []

    # ------------------------------------------------------------------ time

    @property
    def local_us(self) -> int:
        """The monotonic clock of this process."""
        return max(self.world.now_us, self.held_us)

    @property
    def wall_us(self) -> int:
        """What it believes the time to be."""
        return self.local_us + self.skew_us

    def hold(self, us: int) -> None:
        """It does nothing else for so long."""
        self.held_us = self.local_us + us

    def set_clock(self, by_us: int) -> None:
        """Its wall clock is set, forward or back."""
        self.skew_us += by_us
        self.furthest_us = max(self.furthest_us, self.skew_us)

    def stop(self, us: int) -> None:
        """It is stopped by the system for so long, in the middle of whatever it does."""
        self.hold(us)
        self.stopped_us = self.held_us

    @property
    def can_run(self) -> bool:
        return not self.is_dead and self.held_us <= self.world.now_us

    # ------------------------------------------------------------------ life

    async def _open(self) -> Engine:
        engine = EmbeddedEngine(
            self.world.path,
            durability="off",
            concurrency=self._concurrency,
            clock=SimClock(self),
            ids=Ids(self.world.chance.getrandbits(48)),
            linger_ms=self._linger_ms,
            machine=SimMachine(self),
        )
        self.engine = engine
        await engine.begin(worker=self.worker, log_level=logging.INFO)
        return engine

    async def connect(self) -> None:
        """Open the file; whoever waits for `connected` goes on."""
        await self.client.open()
        self.connected.set()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin something in this process."""
        task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        return task

    def die(self) -> None:
        """Killed: its locks are free, its file stays, and nothing of it is ever called again."""
        if self.is_dead:
            return
        self.is_dead = True
        engine = self.engine
        if engine is not None:
            membership = engine._membership
            if membership is not None and membership._lock is not None:
                _free(membership._lock)
            self.world.defer(engine.store)
        if self.client in clients._clients:
            clients._clients.remove(self.client)
        self.world.deaths += 1

    def bury(self) -> None:
        """At the end of the world: let go of what its code holds, without letting the code do anything."""
        self.is_dead = True
        if self.engine is not None:
            # Closing a branch tells its worker that the code has ended.
            self.engine.worker.attempt_ended = _ignore  # type: ignore[method-assign, assignment]
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            with contextlib.suppress(BaseException):
                coroutine.close()
        self.loop.close()

    # ------------------------------------------------------------------ notices

    def new_watch(self) -> SimWatch:
        """A watch on the log."""
        number = self.world.new_number()
        watch = self.watches[number] = SimWatch(self, number)
        return watch

    def on_reader(self, fd: int) -> None:
        """The loop begins to wait for a descriptor."""
        watch = self.watches.get(fd)
        if watch is not None and watch.is_pending:
            self.loop.readable(fd)

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio found an exception that nobody takes."""
        error = context.get("exception")
        if not isinstance(error, Died) and not self.is_dead and not self.world.is_over:
            self.world.wrong(f"process {self.number}: {context.get('message')}: {error!r}", error)

    def __repr__(self) -> str:
        return f"<node {self.number}>"


def _ignore(*_: Any) -> None:
    """What is said of the dead."""


def _free(lock: locks.WorkerLock) -> None:
    if lock._descriptor >= 0:
        os.close(lock._descriptor)
        locks._held_here.discard(str(lock.path))
        lock._descriptor = -1
