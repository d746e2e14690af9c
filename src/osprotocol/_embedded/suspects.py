"""Runs that executed when a worker died: one of them may be what killed it, so not all begin at once again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from osprotocol._lifecycle.state import RunState

_PROBATION_S = 1.0


class Suspects:
    """Those that one worker died with begin one at a time; with each that lives on for a while, twice as many may.

    Those that two workers died with go on strictly one at a time, so that no run is held for poison that only stood
    beside it.

    Args:
        more: called when there is room for another.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, more: Callable[[], None]) -> None:
        self._loop = loop
        self._more = more
        self._on_probation: set[int] = set()
        self._at_once = 1
        self._prime: int | None = None

    def room_by_query(self) -> dict[str, int]:
        """How many runs of each of the two kinds may begin now; never both kinds side by side."""
        return {
            "ready_suspects": self._at_once - len(self._on_probation) if self._prime is None else 0,
            "ready_prime_suspects": 1 if self._prime is None and not self._on_probation else 0,
        }

    def begins(self, state: RunState) -> None:
        """A claimed run begins to execute."""
        if state.deaths > 1:
            self._prime = state.key
        elif state.deaths:
            self._on_probation.add(state.key)
            self._loop.call_later(_PROBATION_S, self._lives_on, state.key)

    def stops(self, key: int) -> None:
        """A run ended, or only waits now: it killed nobody."""
        if key in self._on_probation or key == self._prime:
            self._on_probation.discard(key)
            self._prime = None if key == self._prime else self._prime
            self._more()

    def _lives_on(self, key: int) -> None:
        if key in self._on_probation:
            self._at_once *= 2
            self.stops(key)
