"""`VirtualClock`: time that stands still until a test moves it, or jumps to the next timer when nothing happens."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from osprotocol._clock import US_PER_MS, from_datetime, to_datetime
from osprotocol.protocol._wire import duration_ms

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Where a virtual clock begins when nothing else is said."""

# Rounds of the event loop without anything to do after which nothing can come any more by itself.
_CALM_ROUNDS = 20
# Real time in which a step, thread or other process may still bring something, and how often we look.
_LOOK_S = 0.001
_CALM_LOOKS = 5
# Another process, or another client of this one, sees a commit only when it looks for it.
_FOREIGN_LOOKS = 90


class Watched(Protocol):
    """What a clock asks before it says that nothing happens."""

    @property
    def is_idle(self) -> bool:
        """Nothing waits to be committed or sent."""

    @property
    def is_quiet(self) -> bool:
        """Idle, and no code executes: only people, timers and others can move something."""

    @property
    def moves(self) -> int:
        """Grows whenever something happened."""


class _VirtualTimer:
    __slots__ = ("callback", "is_cancelled", "when")

    def __init__(self, when: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def fire(self) -> None:
        if not self.is_cancelled:
            self.is_cancelled = True
            self.callback()

    def cancel(self) -> None:
        self.is_cancelled = True


class VirtualClock:
    """A clock that a test moves. Give it to `testing.connect` or `osprotocol.connect(clock=...)`.

    Args:
        start: where it begins; 2026-01-01 UTC by default.
        autojump: when no code executes, nothing is queued and the event loop has been idle for a few real
            milliseconds, jump to the next timer, so that a sleep of 30 days takes no time. A step that is waiting for
            something counts as executing.
    """

    def __init__(self, start: datetime = START, *, autojump: bool = False) -> None:
        self._now = from_datetime(start)
        self._autojump = autojump
        self._timers: list[tuple[int, int, _VirtualTimer]] = []
        self._numbers = itertools.count()
        self._watched: list[Watched] = []
        self._engines = 0
        self._holds = 0
        self._jumper: asyncio.Task[None] | None = None

    # ------------------------------------------------------- what an engine needs

    def now(self) -> int:
        """The instant in microseconds since 1970 UTC."""
        return self._now

    def call_at(self, when: int, callback: Callable[[], None]) -> _VirtualTimer:
        """Call back once the clock has come to `when`."""
        timer = _VirtualTimer(when, callback)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.fire)
        else:
            heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def attach(self, watched: Watched, *, is_engine: bool = True) -> Callable[[], None]:
        """Ask this too before time jumps or a wait for calm ends; gives what ends it.

        Args:
            watched: what to ask.
            is_engine: whether it looks for the commits of others by itself, now and then.
        """
        self._watched.append(watched)
        self._engines += is_engine
        if self._autojump and self._jumper is None:
            self._jumper = asyncio.get_running_loop().create_task(self._jump_when_calm())

        def detach() -> None:
            self._watched.remove(watched)
            self._engines -= is_engine
            if not self._watched and self._jumper is not None:
                self._jumper.cancel()
                self._jumper = None

        return detach

    # ------------------------------------------------------------ what a test uses

    @property
    def moment(self) -> datetime:
        """The instant as an aware UTC datetime."""
        return to_datetime(self._now)

    @property
    def next_timer(self) -> datetime | None:
        """When the earliest timer is due; None when nothing waits for time."""
        self._drop_cancelled()
        return to_datetime(self._timers[0][0]) if self._timers else None

    async def advance(self, duration: timedelta | None = None, *, ms: int | None = None) -> None:
        """Move on by a duration; every timer on the way fires at its instant, and what it starts is waited for.

        Args:
            duration: how far; or
            ms: whole milliseconds.
        """
        if (duration is None) == (ms is None):
            raise TypeError("give a timedelta or ms=, one of them")
        length = duration_ms(duration if duration is not None else ms, "advance") or 0
        await self.advance_to(to_datetime(self._now + length * US_PER_MS))

    async def advance_to(self, moment: datetime) -> None:
        """Move on to an instant; otherwise as `advance`."""
        target = from_datetime(moment)
        with self.hold():
            await self.settle()
            while self._due(target):
                self._fire_next()
                await self.settle()
            self._now = max(self._now, target)

    def set(self, moment: datetime) -> None:
        """Set the clock, forwards or back, as an operator would; what is due then fires in the loop's next round."""
        self._now = from_datetime(moment)
        loop = asyncio.get_running_loop()
        while self._due(self._now):
            loop.call_soon(heapq.heappop(self._timers)[2].fire)

    async def settle(self) -> None:
        """Wait, in real time, until nothing happens any more without time, people or a step that is still at work."""
        with self.hold():
            rounds = looks = 0
            while rounds < _CALM_ROUNDS:
                await asyncio.sleep(0)
                if self._is_quiet and self._engines < 2:
                    rounds += 1
                    continue
                rounds, before = 0, self._moves
                await asyncio.sleep(_LOOK_S)
                looks = looks + 1 if self._is_idle and self._moves == before else 0
                if looks >= (_CALM_LOOKS if self._engines < 2 else _FOREIGN_LOOKS):
                    return

    @contextmanager
    def hold(self) -> Iterator[None]:
        """No jump happens inside the block."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    # ------------------------------------------------------------------- inside

    @property
    def _is_idle(self) -> bool:
        return all(watched.is_idle for watched in self._watched)

    @property
    def _is_quiet(self) -> bool:
        return all(watched.is_quiet for watched in self._watched)

    @property
    def _moves(self) -> int:
        return sum(watched.moves for watched in self._watched)

    def _drop_cancelled(self) -> None:
        while self._timers and self._timers[0][2].is_cancelled:
            heapq.heappop(self._timers)

    def _due(self, target: int) -> bool:
        self._drop_cancelled()
        return bool(self._timers) and self._timers[0][0] <= target

    def _fire_next(self) -> None:
        when = self._timers[0][0]
        self._now = max(self._now, when)
        while self._due(when):
            heapq.heappop(self._timers)[2].fire()

    async def _jump_when_calm(self) -> None:
        looks, before = 0, -1
        while True:
            await asyncio.sleep(_LOOK_S)
            self._drop_cancelled()
            calm = not self._holds and self._is_quiet and self._moves == before
            looks, before = (looks + 1 if calm else 0), self._moves
            if looks >= _CALM_LOOKS and self._timers:
                looks = 0
                self._fire_next()
