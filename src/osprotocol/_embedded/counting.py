"""Counts over all runs. They look at every row, so they have a thread and a connection of their own, and are kept."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apsw

from osprotocol._clock import Clock, monotonic_s, to_datetime
from osprotocol._embedded.database import open_reader, translated
from osprotocol._embedded.queries import QUERIES
from osprotocol.protocol.run import RunStatus
from osprotocol.protocol.statistics import Statistics, WorkflowStatistics

_KEPT_S = 1.0
_SHARE = 20
"""Counting takes at most one part in so many of the time, however many runs there are."""
_HOUR_US = 3_600_000_000
_WAITS = 1_000


class Counting:
    """Counts, made at most once a second and kept meanwhile.

    Args:
        path: the database.
        clock: says what the last day is.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._kept: Statistics | None = None
        self._good_until = 0.0
        self._counting: asyncio.Task[Statistics] | None = None

    async def statistics(self) -> Statistics:
        """What was counted last, counted anew if that is old."""
        if self._kept is not None and monotonic_s() < self._good_until:
            return self._kept
        if self._counting is None:
            self._counting = asyncio.get_running_loop().create_task(self._count())
        return await asyncio.shield(self._counting)

    async def _count(self) -> Statistics:
        began = monotonic_s()
        try:
            counted = await asyncio.to_thread(self._read, self._clock.now())
        finally:
            self._counting = None
        now = monotonic_s()
        self._kept, self._good_until = counted, now + max(_KEPT_S, _SHARE * (now - began))
        return counted

    def _read(self, now: int) -> Statistics:
        with translated(self._path):
            connection = open_reader(self._path)
            try:
                connection.execute("BEGIN")  # all of it as of one commit
                counts = _rows(connection, "count_runs")
                failed = _rows(connection, "count_failed", now - 24 * _HOUR_US)[0][0]
                waiting, oldest, expiring = _rows(connection, "count_requests", now + _HOUR_US)[0]
                waits = _rows(connection, "newest_waits", _WAITS)
            finally:
                connection.close()
        return Statistics(
            at=to_datetime(now),
            runs={status.value: sum(n for _, found, n in counts if found == status) for status in RunStatus},
            failed_last_day=failed,
            open_requests=waiting,
            oldest_request_at=None if oldest is None else to_datetime(oldest),
            expiring_within_hour=expiring,
            workflows=tuple(_by_workflow(counts, waits)),
        )


def _rows(connection: apsw.Connection, query: str, *arguments: int) -> list[tuple[Any, ...]]:
    return connection.execute(QUERIES[query], arguments).fetchall()


def _by_workflow(counts: list[tuple[Any, ...]], waits: list[tuple[Any, ...]]) -> Iterable[WorkflowStatistics]:
    for workflow in sorted({row[0] for row in counts}):
        took = [wait for name, wait in waits if name == workflow]
        yield WorkflowStatistics(
            workflow=workflow,
            runs={status: number for name, status, number in counts if name == workflow},
            median_wait_ms=round(statistics.median(took)) if took else None,
        )
