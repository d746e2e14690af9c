"""A thread of our own beside the event loop, for what waits for the disk."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Lane:
    """Does jobs one after another on a thread, and tells the loop of each. The thread begins with the first job."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def do(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do a job after those before it; `done` is called on the loop with what came of it. A job may not raise."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="osprotocol-writer", daemon=True)
            self._thread.start()
        with self._condition:
            self._jobs.append((job, done))
            self._condition.notify()

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._jobs and not self._stopping:
                    self._condition.wait()
                if not self._jobs:
                    return
                job, done = self._jobs.popleft()
            outcome = job()
            try:
                self._loop.call_soon_threadsafe(done, outcome)
            except RuntimeError:
                return  # the loop was closed without leaving the client's block; everything committed is on disk

    async def close(self) -> None:
        """Do what is queued, and end the thread."""
        self._stopping = True
        with self._condition:
            self._condition.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
