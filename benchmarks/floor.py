"""The floor: the commits that a durable run needs, on raw SQLite, and nothing else.

A run of n steps makes n + 1 synced commits: one for its row and its first event, and one for each step's
result, the last of which carries the completion as well. A vote is a commit of its own. The journal is
append-only, with an integer key and one narrow index. There is no lifecycle, retry, timer, type, ownership or
limit: what those cost is what the comparison shows.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

Statement = tuple[str, tuple[Any, ...]]

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, workflow TEXT NOT NULL, status TEXT NOT NULL,
    input BLOB NOT NULL, output BLOB) STRICT;
CREATE TABLE IF NOT EXISTS journal (number INTEGER PRIMARY KEY, run INTEGER NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, body BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS journal_by_run ON journal (run);
CREATE TABLE IF NOT EXISTS requests (run INTEGER PRIMARY KEY, status TEXT NOT NULL, message TEXT NOT NULL,
    answer BLOB) STRICT;
"""

GROUP_LIMIT = 1_000


def connect(file: Path) -> apsw.Connection:
    """Open the file with the write-ahead log and a sync at every commit."""
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(5_000)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "FULL")
    connection.execute(SCHEMA)
    return connection


class InlineJournal:
    """Commits on the event loop's own thread: no handoff, and no other run goes on meanwhile."""

    def __init__(self, file: Path) -> None:
        self._connection = connect(file)

    async def commit(self, statements: Sequence[Statement]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for sql, values in statements:
            execute(sql, values)
        execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


class GroupJournal:
    """One writer thread: whatever has queued up while it synced becomes its next commit."""

    def __init__(self, file: Path) -> None:
        self._connection = connect(file)
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[tuple[Sequence[Statement], asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    async def commit(self, statements: Sequence[Statement]) -> None:
        committed = self._loop.create_future()
        self._queue.put((statements, committed))
        await committed

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _write(self) -> None:
        execute = self._connection.execute
        item = self._queue.get()
        while item is not None:
            waiting = []
            execute("BEGIN IMMEDIATE")
            while item is not None:
                statements, committed = item
                for sql, values in statements:
                    execute(sql, values)
                waiting.append(committed)
                if len(waiting) == GROUP_LIMIT:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            execute("COMMIT")
            self._loop.call_soon_threadsafe(_wake, waiting)
            if item is not None:
                item = self._queue.get()


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for committed in waiting:
        committed.set_result(None)
