"""Driving the coroutines of a run: how we know when its code stands still, and what else it awaits.

Each branch of a run is an asyncio task whose coroutine is stepped here. A branch that waits for something its context
made yields a `Wait`; anything else is foreign, unless a step runs in that branch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from osprotocol._clock import monotonic_s
from osprotocol._embedded.foreign import foreign_await
from osprotocol._embedded.signals import Unwind

if TYPE_CHECKING:
    from osprotocol._embedded.attempt import Attempt
    from osprotocol._embedded.branches import Branch


class Wait(asyncio.Future[Any]):
    """What a branch waits on; resolved through its attempt, which counts who can run."""


class Abandoned:
    """Awaited by code that swallows every signal: it is never resumed."""

    def __await__(self) -> Generator[Any, Any, Any]:
        yield self


class Drive:
    """Awaiting it runs the coroutine to its end, under the eyes of the attempt."""

    __slots__ = ("_attempt", "_branch", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], attempt: Attempt, branch: Branch) -> None:
        self._coroutine = coroutine
        self._attempt = attempt
        self._branch = branch

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, attempt, branch = self._coroutine, self._attempt, self._branch
        stall = attempt.stall
        error: BaseException | None = None
        while True:
            stall.branch, stall.since = branch, monotonic_s()
            try:
                awaited = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                stall.branch = None
            if isinstance(awaited, Abandoned):
                attempt.worker.abandon(attempt, coroutine)
                raise Unwind
            if isinstance(awaited, Wait):
                attempt.stands(branch)
            elif branch.step is None:
                error = foreign_await(attempt, coroutine, awaited)
                if error is not None:
                    continue
                attempt.awaits_foreign(branch, True)
            try:
                yield awaited
                error = None
            except BaseException as thrown:  # noqa: BLE001 - handed to the user's coroutine, as await does
                error = thrown
            if branch.is_foreign:
                attempt.awaits_foreign(branch, False)


class Stall:
    """Which branch holds the event loop, and since when; read by the watchdog thread."""

    __slots__ = ("branch", "since")

    def __init__(self) -> None:
        self.branch: Branch | None = None
        self.since = 0.0
