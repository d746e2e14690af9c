"""The writer: operations are queued as they arise and committed in groups.

A group is sent at the end of the event loop's current round, so everything that this round produced shares a commit.
With one run at work and a quick disk the commit is made on the loop's own thread, which saves two thread
switches; otherwise on the writer thread, while the loop goes on and fills the next group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from osprotocol._clock import loop_s
from osprotocol._embedded.lane import Lane
from osprotocol._embedded.store import Group, Operation, Store
from osprotocol._embedded.transaction import Transaction
from osprotocol.errors import EngineClosedError, WrongLoopError

T = TypeVar("T")

_QUICK_COMMIT_S = 0.002
_INLINE_OPERATIONS = 8


class Writer:
    """Commits the operations of one event loop.

    Args:
        store: where to.
        on_group: called on the loop after each group, before its operations' own callbacks.
        busy: how many runs execute now; with more than one the lane is used.
        lane: where commits are made that would hold the loop.
    """

    def __init__(self, store: Store, on_group: Callable[[Group], None], busy: Callable[[], int], lane: Lane) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._on_group = on_group
        self._busy = busy
        self._queue: list[Operation] = []
        self._scheduled = False
        self._in_flight = 0
        self._commit_s = 0.0
        self._lane = lane
        self._stopping = False
        self._idle: asyncio.Future[None] | None = None
        self.round = 0

    @property
    def is_idle(self) -> bool:
        """Nothing is queued and nothing is being committed."""
        return not self._queue and not self._in_flight

    @property
    def is_settled(self) -> bool:
        """No group is being committed."""
        return not self._in_flight

    def check_loop(self) -> None:
        """Refuse another loop or thread than the one that connected.

        Raises:
            WrongLoopError: it is another one.
        """
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise WrongLoopError()

    def put(self, operation: Operation, *, lazy: bool = False) -> None:
        """Queue an operation; its group is sent at the end of this round of the loop.

        A `lazy` one, which nothing waits for, gives the code that it lets go on one round to add to its group.
        """
        if self._stopping:
            raise EngineClosedError()
        self._queue.append(operation)
        if lazy:
            self._loop.call_soon(self._schedule)
        else:
            self._schedule()

    def _schedule(self) -> None:
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    async def execute(
        self,
        run: Callable[[Transaction], T],
        *,
        human: bool = False,
        at_once: Callable[[T], None] | None = None,
    ) -> T:
        """Do something in a transaction and wait until it is durable; `at_once` is called the moment that it is.

        Raises:
            OSProtocolError: it was refused, or the database failed.
        """
        self._store.check_usable()
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(operation: Operation) -> None:
            if operation.error is None and at_once is not None:
                at_once(operation.result)
            if future.cancelled():
                return
            if operation.error is not None:
                future.set_exception(operation.error)
            else:
                future.set_result(operation.result)

        self.put(Operation(run, done, human=human))
        result: T = await future
        return result

    def _flush(self) -> None:
        self._scheduled = False
        if not self._queue or self._in_flight:
            return  # the group in flight sends the queue when it is back
        group, self._queue = self._queue, []
        self.round += 1
        # What has to be accepted elsewhere takes milliseconds of waiting: never on the loop.
        quick = (
            self._store.upstream is None
            and self._commit_s < _QUICK_COMMIT_S
            and len(group) <= _INLINE_OPERATIONS
            and self._busy() <= 1
        )
        if quick and self._store.lock.acquire(blocking=False):
            try:
                finished = self._timed_commit(group) if self._store.begin_at_once(group) else None
            finally:
                self._store.lock.release()
            if finished is not None:
                self._finish(finished)
                return
        self._hand_over(group)

    def _timed_commit(self, group: list[Operation]) -> Group:
        before = loop_s(self._loop)
        finished = self._store.commit(group)
        # Moving average: one slow sync does not move the work to the thread, a slow disk does.
        self._commit_s = 0.8 * self._commit_s + 0.2 * (loop_s(self._loop) - before) / max(1, len(group) / 4)
        return finished

    def _finish(self, group: Group) -> None:
        _guarded(self._on_group, group)
        for operation in group.operations:
            if operation.done is not None:
                _guarded(operation.done, operation)
        self._schedule()
        if self._idle is not None and self.is_idle:
            self._idle.set_result(None)
            self._idle = None

    async def drain(self) -> None:
        """Wait until everything that was queued is committed."""
        while not self.is_idle:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    # ------------------------------------------------------------- beside the loop

    def _hand_over(self, group: list[Operation]) -> None:
        self._in_flight += 1

        def commit() -> Group:
            with self._store.lock:
                return self._timed_commit(group)

        self._lane.do(commit, self._back)

    def _back(self, group: Group) -> None:
        self._in_flight -= 1
        self._schedule()  # what piled up meanwhile goes out before the callbacks' own
        self._finish(group)

    async def close(self) -> None:
        """Commit what is queued and end the thread."""
        await self.drain()
        self._stopping = True
        await self._lane.close()


def _guarded(tell: Callable[[T], None], what: T) -> None:
    """Tell one listener; its mistake must not keep the others from being told."""
    try:
        tell(what)
    except BaseException:
        logging.getLogger("osprotocol").exception("telling what was committed failed")
