"""Timelines of the runs that people look at now: kept, so that a page only reads the events that are new."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import datetime

from osprotocol.engine import Engine
from osprotocol.server.console.timeline import Timeline

_RUNS = 64
_BARS = 200_000
_EVENTS_AT_ONCE = 1_000


class _History:
    __slots__ = ("created_at", "lock", "timeline")

    def __init__(self, created_at: datetime) -> None:
        self.created_at = created_at
        self.timeline = Timeline()
        self.lock = asyncio.Lock()


class Histories:
    """Reads timelines and remembers the newest ones, bounded by number and size."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _History] = OrderedDict()

    async def read(self, engine: Engine, run_id: str, created_at: datetime) -> Timeline:
        """The timeline of a run, up to now.

        Args:
            engine: where its events are.
            run_id: the whole id.
            created_at: of the run; another one means another run of the same id.
        """
        history = self._known.get(run_id)
        if history is None or history.created_at != created_at:
            history = self._known[run_id] = _History(created_at)
        self._known.move_to_end(run_id)
        async with history.lock:
            timeline = history.timeline
            while True:
                events = await engine.read_events(run_id, timeline.event, _EVENTS_AT_ONCE)
                timeline.feed(events)
                if len(events) < _EVENTS_AT_ONCE:
                    break
                await asyncio.sleep(0)  # others get their turn while a long run is read
        self._forget()
        return timeline

    def _forget(self) -> None:
        bars = sum(len(history.timeline.bars) for history in self._known.values())
        while len(self._known) > 1 and (len(self._known) > _RUNS or bars > _BARS):
            _, oldest = self._known.popitem(last=False)
            bars -= len(oldest.timeline.bars)
