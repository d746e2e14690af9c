"""A clock that stands still until a test moves it, forward or back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

START_US = 1_700_000_000_000_000


class ManualTimer:
    """A timer of a `ManualClock`."""

    __slots__ = ("callback", "order", "when")

    def __init__(self, when: int, order: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.order = order
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Time that only `set` and `jump` move. It goes on over the deaths of engines, as a wall clock does."""

    def __init__(self, start: int = START_US) -> None:
        self._now = start
        self._order = itertools.count()
        self._timers: list[ManualTimer] = []

    def now(self) -> int:
        return self._now

    def call_at(self, when: int, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(when, next(self._order), callback)
        self._timers.append(timer)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(self._fire)
        return timer

    def set(self, now: int) -> None:
        """Make it that instant, also an earlier one, and fire what is due then."""
        self._now = now
        self._fire()

    def jump(self) -> bool:
        """Go on to the next timer; False when there is none."""
        pending = [timer.when for timer in self._timers if timer.callback is not None]
        if pending:
            self.set(max(self._now, min(pending)))
        return bool(pending)

    def forget(self) -> None:
        """The process that set the timers is gone, and they with it."""
        self._timers.clear()

    def _fire(self) -> None:
        due = [timer for timer in self._timers if timer.when <= self._now or timer.callback is None]
        self._timers = [timer for timer in self._timers if timer not in due]
        for timer in sorted(due, key=lambda timer: (timer.when, timer.order)):
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
