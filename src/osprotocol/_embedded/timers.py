"""The timers of one attempt: sleeps and retry delays, which a pause moves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from osprotocol._clock import Timer
from osprotocol._embedded.driver import Wait
from osprotocol._embedded.signals import Unwind

if TYPE_CHECKING:
    from osprotocol._embedded.attempt import Attempt


class AttemptTimers:
    """What wakes the code of an attempt while it is in memory."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._timed: dict[Wait, tuple[int, Callable[[], None], Timer | None, int]] = {}

    def call_at(self, wait: Wait, due: int, on_due: Callable[[], None]) -> None:
        """Call when `due` has come, unless the wait ends before or the run is held; a pause moves `due`."""
        attempt = self._attempt

        def fire() -> None:
            if not (wait.done() or attempt.unwinding or attempt.is_held):
                self._timed.pop(wait, None)
                with contextlib.suppress(Unwind):  # the run was stopped on the way
                    on_due()

        timer = None if attempt.state.pause_settled_at is not None else attempt.worker.clock.call_at(due, fire)
        self._timed[wait] = (due, on_due, timer, attempt.state.paused_us)

    def disarm(self, wait: Wait) -> None:
        """The wait has ended."""
        _, _, timer, _ = self._timed.pop(wait, (0, None, None, 0))
        if timer is not None:
            timer.cancel()

    def disarm_all(self) -> None:
        """The attempt leaves memory."""
        for wait in list(self._timed):
            self.disarm(wait)

    def shift(self) -> None:
        """What held the run is gone: what was to wake then wakes later by the time that it was paused since."""
        paused_us = self._attempt.state.paused_us
        for wait, (due, on_due, _, before_us) in list(self._timed.items()):
            self.disarm(wait)
            self.call_at(wait, due + paused_us - before_us, on_due)

    @property
    def wake_at(self) -> int | None:
        """When the earliest timer of the code is due."""
        return min((due for due, *_ in self._timed.values()), default=None)
