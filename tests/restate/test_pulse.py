"""Who counts as dead: only a worker that is silent while our own signs of life are answered."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest

from osprotocol._restate import following
from osprotocol._restate.following import DEAD_S, Pulse
from osprotocol._restate.ingress import Ingress
from osprotocol.errors import LedgerUnreachableError

BEAT_S = 1.0


class Counters:
    """What answers signs of life, one at a time when the test says so; its clock is the test's as well."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.gone: list[str] = []
        self.counted: dict[str, int] = {}
        self._asked: queue.Queue[None] = queue.Queue()
        self._answers: queue.Queue[dict[str, int] | None] = queue.Queue()
        self.pulse = Pulse(cast(Ingress, self), lambda: "me", lambda: None, self.count)
        self._asked.get(timeout=10)

    def count(self, counts: Mapping[str, int]) -> None:
        self.counted = dict(counts)

    def beat(self, worker: str | None, gone: list[str], answer_s: float) -> dict[str, int]:
        self.gone = gone
        self._asked.put(None)
        answer = self._answers.get(timeout=10)
        if answer is None:
            raise LedgerUnreachableError("nowhere", "no answer")
        return answer

    def answer(self, counts: dict[str, int] | None, after_s: float = BEAT_S) -> None:
        """Answer the sign that waits, and wait for the next one; that one is sent at once, whatever the clock says."""
        self.now += after_s
        self._answers.put(counts)
        self._asked.get(timeout=10)

    def stop(self) -> None:
        stopping = threading.Thread(target=lambda: self.pulse.stop(goodbye=False))
        stopping.start()
        self._answers.put({})
        self._answers.put({})
        stopping.join()


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counters]:
    """A pulse whose first sign waits for its answer."""
    clock: list[Callable[[], float]] = [lambda: 1_000.0]
    monkeypatch.setattr(following, "_BEAT_S", 0.0)
    monkeypatch.setattr(following, "monotonic_s", lambda: clock[0]())
    counters = Counters()
    clock[0] = lambda: counters.now
    yield counters
    counters.stop()


def watch(counters: Counters, seconds: float, **counts: Any) -> None:
    """Signs are answered for so long with the same counts."""
    for _ in range(round(seconds / BEAT_S)):
        counters.answer(dict(counts))


def test_a_worker_that_is_silent_for_long_is_dead(counters: Counters) -> None:
    """Its count stands still while ours is answered; the next sign says that it is gone."""
    counters.answer({"other": 1})
    watch(counters, DEAD_S - 2 * BEAT_S, other=1)
    assert counters.pulse.is_alive("other")
    watch(counters, 3 * BEAT_S, other=1)
    assert not counters.pulse.is_alive("other")
    watch(counters, 2 * BEAT_S, other=1)
    assert counters.gone == ["other"] or not counters.pulse.is_alive("other")


def test_a_worker_whose_count_moves_lives(counters: Counters) -> None:
    """However long it takes."""
    for count in range(round(3 * DEAD_S / BEAT_S)):
        counters.answer({"other": count})
        assert counters.pulse.is_alive("other")


def test_a_worker_that_was_never_heard_of_gets_the_same_time(counters: Counters) -> None:
    """It may have registered just now."""
    counters.answer({})
    assert counters.pulse.is_alive("new")
    watch(counters, DEAD_S + BEAT_S)
    assert not counters.pulse.is_alive("new")


def test_nobody_dies_while_our_own_signs_get_no_answer(counters: Counters) -> None:
    """What cannot be reached is the ledger, for them as for us; afterwards everybody has the whole time again."""
    counters.answer({"other": 1})
    for _ in range(round(2 * DEAD_S / BEAT_S)):
        counters.answer(None)
        assert counters.pulse.is_alive("other")
    watch(counters, DEAD_S - 2 * BEAT_S, other=1)
    assert counters.pulse.is_alive("other")
    watch(counters, 3 * BEAT_S, other=1)
    assert not counters.pulse.is_alive("other")


def test_nobody_dies_because_we_stood_still(counters: Counters) -> None:
    """A process that was stopped, or a machine that was paused, has not listened meanwhile."""
    counters.answer({"other": 1})
    counters.now += 3 * DEAD_S
    assert counters.pulse.is_alive("other")
    counters.answer({"other": 1})
    assert counters.pulse.is_alive("other")
    watch(counters, DEAD_S + BEAT_S, other=1)
    assert not counters.pulse.is_alive("other")


def test_we_never_count_ourselves_as_dead(counters: Counters) -> None:
    """Whatever the counts say."""
    watch(counters, 2 * DEAD_S)
    assert counters.pulse.is_alive("me")


def test_one_that_is_silent_is_forgotten_although_nobody_asks_about_it(counters: Counters) -> None:
    """Its lock told its death, or it was evicted; else it would stay the one that keeps house."""
    for count in range(1, 20):
        counters.answer({"me": count, "killed": 3})
    assert counters.gone == ["killed"]
    assert counters.counted == {"me": 19}
