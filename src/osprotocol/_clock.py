"""The one place that asks for the time and sets timers.

Instants are integer microseconds since 1970-01-01 UTC; durations are integer microseconds unless a name says otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

US_PER_MS = 1_000
US_PER_S = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RECHECK_S = 30.0


class Timer(Protocol):
    """A timer that was set and can be taken back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """What the engine needs to know about time. `SystemClock` is the real one, `testing.VirtualClock` another."""

    def now(self) -> int:
        """The current instant in microseconds since 1970 UTC."""

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Call back on the running event loop once the instant `when` has come, never before."""


class SystemClock:
    """The operating system's wall clock, with timers that follow it when it is set or the machine sleeps."""

    def now(self) -> int:
        return time.time_ns() // 1_000

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        return _SystemTimer(self, when, callback)


class _SystemTimer:
    __slots__ = ("_callback", "_clock", "_handle", "_when")

    def __init__(self, clock: SystemClock, when: int, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._when = when
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._arm()

    def _arm(self) -> None:
        delay_s = (self._when - self._clock.now()) / US_PER_S
        # The loop counts monotonic time; looking again every half minute keeps us on the wall clock after a jump.
        delay_s = min(max(delay_s, 0.0), _RECHECK_S)
        self._handle = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def _fire(self) -> None:
        if self._clock.now() < self._when:
            self._arm()
        else:
            self._handle = None
            self._callback()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def monotonic_s() -> float:
    """Seconds on a clock that is never set, for measuring how long something took in this process."""
    return time.perf_counter()


def loop_s(loop: asyncio.AbstractEventLoop) -> float:
    """Seconds on the clock of an event loop, which is never set either; from any thread."""
    return loop.time()


def to_datetime(instant: int) -> datetime:
    """The aware UTC datetime of an instant in microseconds."""
    return _EPOCH + timedelta(microseconds=instant)


def from_datetime(moment: datetime) -> int:
    """The instant of an aware datetime, in microseconds.

    Raises:
        ValueError: the datetime has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a datetime without a time zone names no instant; add tzinfo, for example datetime.UTC")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_iso(instant: int) -> str:
    """ISO 8601 in UTC with milliseconds, the protocol's wire form."""
    return to_datetime(instant).strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant // 1_000 % 1_000:03d}Z"


def to_ms(duration: int | timedelta) -> int:
    """Whole milliseconds of a duration given as milliseconds or as a timedelta, rounded up so nothing fires early."""
    if isinstance(duration, timedelta):
        return (
            -(-duration // timedelta(milliseconds=1))
            if duration % timedelta(milliseconds=1)
            else (duration // timedelta(milliseconds=1))
        )
    return duration
