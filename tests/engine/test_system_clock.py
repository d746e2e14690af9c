"""Timers of the system's clock: they follow the wall clock, whatever the loop's own clock says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from osprotocol import _clock
from osprotocol._clock import US_PER_S, SystemClock

_DUE = 1_000 * US_PER_S


class _SetClock(SystemClock):
    """The system's clock, as somebody sets it."""

    def __init__(self) -> None:
        self.at = 0

    def now(self) -> int:
        return self.at


class _Calls:
    """What was asked of the loop, to be called when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.delays_s: list[float] = []
        self._last: Callable[[], None] = lambda: None
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self.delays_s.append(delay_s)
        self._last = callback
        loop = asyncio.get_running_loop()
        return asyncio.TimerHandle(0.0, callback, (), loop)

    def pass_by(self) -> None:
        """The loop's clock reaches what was asked last."""
        self._last()


async def test_a_timer_does_not_fire_before_its_time_when_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, clock, fired = _Calls(monkeypatch), _SetClock(), list[int]()
    clock.at = _DUE - US_PER_S
    clock.call_at(_DUE, lambda: fired.append(clock.at))
    assert calls.delays_s == [1.0]
    clock.at -= 5 * US_PER_S
    calls.pass_by()
    assert (fired, calls.delays_s) == ([], [1.0, 6.0])
    clock.at = _DUE
    calls.pass_by()
    assert (fired, len(calls.delays_s)) == ([_DUE], 2)


async def test_a_timer_looks_again_so_that_a_clock_set_forward_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, clock, fired = _Calls(monkeypatch), _SetClock(), list[int]()
    clock.call_at(_DUE, lambda: fired.append(clock.at))
    assert calls.delays_s == [_clock._RECHECK_S]
    clock.at = 2 * _DUE
    calls.pass_by()
    assert fired == [2 * _DUE]


async def test_what_is_due_already_is_not_called_at_once_but_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, clock, fired = _Calls(monkeypatch), _SetClock(), list[int]()
    clock.at = 3 * _DUE
    clock.call_at(_DUE, lambda: fired.append(clock.at))
    assert (fired, calls.delays_s) == ([], [0.0])
    calls.pass_by()
    assert fired == [3 * _DUE]
