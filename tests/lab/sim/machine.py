"""The machine under a simulated process: a disk that fails when told to, lanes and notices that take their time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from osprotocol._clock import Clock, SystemClock
from osprotocol._embedded.lane import Lane
from osprotocol._embedded.machine import Machine
from osprotocol._embedded.store import Group, Operation, Store
from osprotocol._embedded.upstream import Upstream
from osprotocol._embedded.worker import Worker

if TYPE_CHECKING:
    from tests.lab.sim.node import Node

T = TypeVar("T")


class Died(BaseException):
    """The process ends here: nothing after this is done."""


class SimClock(SystemClock):
    """The wall clock of one process, which may be wrong and may be set."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def now(self) -> int:
        return self._node.wall_us


class SimStore(Store):
    """The real store on a real file, with what can happen to a commit."""

    node: Node

    def commit(self, operations: list[Operation]) -> Group:
        node = self.node
        node.commits += 1
        fault = node.world.fault_of(node)
        if fault == "die before":
            node.die()
            raise Died
        self._fault = fault
        try:
            group = super().commit(operations)
        finally:
            self._fault = None
        node.hold(node.world.commit_us())
        node.world.committed(node, group, fault)
        if fault == "die after":
            node.die()
            raise Died
        return group

    _fault: str | None = None

    def _begin(self, connection: apsw.Connection, operations: list[Operation]) -> None:
        if self._fault == "busy":
            raise apsw.BusyError("simulated: database is locked")
        super()._begin(connection, operations)
        if self._fault == "refused":
            connection.set_commit_hook(lambda: True)
        elif self._fault == "unknown":
            connection.set_wal_hook(lambda *_: apsw.SQLITE_IOERR)


class SimLane(Lane):
    """A thread whose jobs are done, and told, at instants that the world chooses."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._free_at = 0.0

    def do(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        world, loop = self._node.world, self._node.loop

        def work() -> None:
            before = self._node.held_us
            outcome = job()
            self._node.held_us = before  # a thread holds itself, not the loop
            loop.call_later(world.thread_delay_s(), done, outcome)

        self._free_at = max(self._free_at, loop.time()) + world.thread_delay_s()
        loop.call_at(self._free_at, work)

    async def close(self) -> None:
        """There is no thread."""


class SimWatch:
    """A notice that the log was written, which comes a little later."""

    def __init__(self, node: Node, number: int) -> None:
        self._node = node
        self._number = number
        self.is_pending = False

    def fileno(self) -> int:
        return self._number

    def drain(self) -> None:
        self.is_pending = False

    def close(self) -> None:
        self._node.watches.pop(self._number, None)

    def written(self) -> None:
        """Somebody wrote."""
        self.is_pending = True
        self._node.loop.readable(self._number)


class SimMachine(Machine):
    """What one simulated process has."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def open_store(
        self, path: Path, clock: Clock, durability: str, vfs: str | None, upstream: Upstream | None
    ) -> Store:
        store = SimStore(path, clock, durability, vfs, upstream)
        store.node = self._node
        return store

    def new_lane(self) -> Lane:
        return SimLane(self._node)

    def watch_file(self, path: Path) -> Any:
        return self._node.new_watch()

    def attend(self, worker: Worker, log_level: int) -> Callable[[], None]:
        return lambda: None
