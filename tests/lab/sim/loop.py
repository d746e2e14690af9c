"""The event loop of a simulated process: stepped from outside, on virtual time."""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
from asyncio import base_events, events
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.sim.node import Node

START_US = 1_800_000_000_000_000
"""When every world begins. The loops count from there, so that a microsecond is not lost in a large number."""


class SimLoop(base_events.BaseEventLoop):
    """asyncio's own scheduling, first come first served, with nothing under it that waits or runs by itself.

    What asyncio promises of the order in which it calls stays true. What it does not promise, when time passes, threads
    come back and other processes move, is chosen by the world.
    """

    _ready: Any
    _scheduled: Any
    _timer_cancelled_count: int

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._thread_id: int | None = threading.get_ident()  # it is always running, as a process is
        self._readers: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self.set_exception_handler(node.on_loop_error)

    def time(self) -> float:
        return (self._node.local_us - START_US) / 1_000_000

    def close(self) -> None:
        self._thread_id = None
        self._ready.clear()
        self._scheduled.clear()
        super().close()

    def _write_to_self(self) -> None:
        """Nothing waits, so nothing has to be woken."""

    # ------------------------------------------------------------------ stepped

    def gather_due(self) -> None:
        """Make the timers ready whose time has come."""
        scheduled, now_s = self._scheduled, self.time() + 2e-9
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= now_s):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)

    @property
    def has_ready(self) -> bool:
        """Whether something could run now."""
        return bool(self._ready)

    @property
    def next_due_us(self) -> int | None:
        """When the next timer is due; None without one."""
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        return START_US + math.ceil(scheduled[0]._when * 1_000_000 - 0.001) if scheduled else None

    def turn(self, most: int) -> None:
        """Call at most that many of what is ready, as long as the process lives and is not held."""
        node, ready = self._node, self._ready
        events._set_running_loop(self)
        try:
            while most > 0 and ready and node.can_run:
                most -= 1
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            events._set_running_loop(None)

    # ------------------------------------------------------ threads and descriptors

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """A thread: it does its work at one instant, and its result comes back at a later one."""
        future: asyncio.Future[Any] = self.create_future()

        def back(outcome: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(outcome)

        def work() -> None:
            outcome, error = None, None
            try:
                outcome = func(*args)
            except Exception as raised:  # noqa: BLE001 - it goes to who waits for the thread
                error = raised
            self.call_later(self._node.world.thread_delay_s(), back, outcome, error)

        self.call_later(self._node.world.thread_delay_s(), work)
        return future

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        self._readers[fd] = (callback, args)
        self._node.on_reader(fd)

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    def readable(self, fd: int) -> None:
        """The descriptor can be read: whoever waits for it is called."""
        found = self._readers.get(fd)
        if found is not None:
            callback, args = found
            self.call_soon(callback, *args)
