"""A process on a disk that may fail: the real engine and client, on an event loop whose waiting takes no time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import selectors
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import apsw

from osprotocol import current_step
from osprotocol._clock import Clock
from osprotocol._embedded.database import open_reader, translated
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.filewatch import FileWatch
from osprotocol._embedded.lane import Lane
from osprotocol._embedded.logs import executing_attempt, install
from osprotocol._embedded.machine import Machine
from osprotocol._embedded.store import Store
from osprotocol._embedded.upstream import Upstream
from osprotocol._embedded.worker import Worker
from osprotocol._ids import Ids
from osprotocol.client import Client
from osprotocol.engine import Engine
from tests.crash.clock import ManualClock
from tests.crash.ledger import Ledger
from tests.crash.life import Life
from tests.lab.faulty_disk import FaultyDisk
from tests.lab.harness import Violation

T = TypeVar("T")

CHECKPOINT_PAGES = 24
"""A checkpoint after so many pages, so that commits meet errors of the main file too."""


class _Jumping(selectors.DefaultSelector):
    """Does not wait: when nothing has happened, the loop's clock jumps to its next timer."""

    loop: JumpingLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # Only another thread can bring anything; a second of nothing is for ever.
            found = super().select(1.0)
            if not found:
                raise Violation("the process hangs: nothing is ready and nothing is waited for")
            return found
        found = super().select(0)
        if not found and timeout > 0:
            self.loop.elapsed_s += timeout
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on which an hour of waiting takes no time, and what other threads would do is done at once."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.loop = self
        self.elapsed_s = 0.0
        super().__init__(selector)
        self.mishaps: list[str] = []
        self.set_exception_handler(self._mishap)

    def time(self) -> float:
        return self.elapsed_s

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)
        return future

    def _mishap(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.mishaps.append(f"{context.get('message')}: {context.get('exception')!r}")


class ErrorLog(logging.Handler):
    """What our code logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self.lines.append(text)

    def unraisable(self, told: sys.UnraisableHookArgs) -> None:
        """An error that Python can tell nobody is one too, unless it is only SQLite that had nobody to tell."""
        names = {frame.f_code.co_name for frame, _ in traceback.walk_tb(told.exc_traceback)}
        if isinstance(told.exc_value, apsw.Error) and "Connection.tp_dealloc" not in names:
            return  # otherwise a connection was left to be closed by chance
        self.lines.append(f"{told.err_msg or 'nobody can be told'}: {told.exc_value!r} in {told.object!r}")


@contextlib.contextmanager
def error_log() -> Iterator[ErrorLog]:
    """Collect what is logged as an error, of ours and of asyncio's, and what Python can tell nobody."""
    log = ErrorLog()
    loggers = [logging.getLogger(name) for name in ("osprotocol", "asyncio")]
    kept = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(log)
        logger.propagate = False
    hook, sys.unraisablehook = sys.unraisablehook, log.unraisable
    try:
        yield log
    finally:
        sys.unraisablehook = hook
        for logger, propagates in zip(loggers, kept, strict=True):
            logger.removeHandler(log)
            logger.propagate = propagates


class AttemptLedger(Ledger):
    """The world's account where a process may lose an attempt and live: what a lost one returned binds nobody."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._attempts: dict[str, object] = {}

    async def effect(self, label: str) -> None:
        run_id = current_step().idempotency_key.rpartition(":")[0]
        attempt = executing_attempt.get()
        if self._attempts.get(run_id) is not attempt:
            self._attempts[run_id] = attempt
            self._returned.pop(run_id, None)
        await super().effect(label)


class CheckpointingStore(Store):
    """The real store with frequent checkpoints."""

    def _open(self) -> apsw.Connection:
        connection = super()._open()
        with translated(self.path):
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()
        return connection


class OrderlyLane(Lane):
    """Does its jobs on the loop, so that they always come in the same order."""

    def do(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        self._loop.call_soon(lambda: self._loop.call_soon(done, job()))

    async def close(self) -> None:
        pass


class OrderlyMachine(Machine):
    """A machine on which the same happens every time."""

    def open_store(
        self, path: Path, clock: Clock, durability: str, vfs: str | None, upstream: Upstream | None
    ) -> Store:
        return CheckpointingStore(path, clock, durability, vfs, upstream)

    def new_lane(self) -> Lane:
        return OrderlyLane()

    def watch_file(self, path: Path) -> FileWatch | None:
        return None

    def attend(self, worker: Worker, log_level: int) -> Callable[[], None]:
        return install(log_level)


class Process(Life):
    """One process, from opening to close, whose files are on a `FaultyDisk`."""

    def __init__(
        self, path: Path, clock: ManualClock, disk: FaultyDisk, ids: Ids, linger_ms: int, durability: str
    ) -> None:
        super().__init__(path, clock, linger_ms=linger_ms, ids=ids)
        self.disk = disk
        self._durability = durability
        self.client = Client(self._open_on_disk)

    async def _open_on_disk(self) -> Engine:
        # As `connect` does it.
        engine = EmbeddedEngine(
            self.path,
            durability=self._durability,
            clock=self.clock,
            linger_ms=self._linger_ms,
            ids=self._ids,
            vfs=self.disk.name,
            machine=OrderlyMachine(),
        )
        try:
            await engine.begin(worker=True, log_level=logging.INFO)
        except BaseException:
            await engine.close()
            raise
        self.engine = engine
        return engine


@contextlib.contextmanager
def on_disk(disk: FaultyDisk, loop: JumpingLoop) -> Iterator[None]:
    """Whatever the engine opens besides its store is on that disk too."""
    faulty = SimpleNamespace(**vars(apsw))
    faulty.Connection = functools.partial(apsw.Connection, vfs=disk.name)
    inside = "osprotocol._embedded"
    with contextlib.ExitStack() as stack:
        for module in ("upkeep", "doctor"):
            stack.enter_context(mock.patch(f"{inside}.{module}.apsw", faulty))
        reader = functools.partial(open_reader, vfs=disk.name)
        stack.enter_context(mock.patch(f"{inside}.counting.open_reader", reader))
        stack.enter_context(mock.patch(f"{inside}.counting.monotonic_s", loop.time))
        yield


def run_on(loop: JumpingLoop, doing: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end on a loop that is closed afterwards."""
    try:
        loop.run_until_complete(doing)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
