"""Workers killed at any instant: the small share, and what the ledger's reader has to find."""

from __future__ import annotations

import pytest

from tests.lab.forked_kills import HARNESS
from tests.lab.harness import check_small
from tests.lab.kill_ledger import Books


def test_killed_workers_lose_and_repeat_nothing_that_was_committed() -> None:
    """One worker, two, a frozen one and poison: ledger, callers and file agree in the end."""
    check_small(HARNESS)


_EFFECT = "effect run:1 11 aa 1 1 -"
_SEEN = "committed run:1 11 aa"
_WRONG = {
    "effect run:1 11 bb 1 2 -": "began in 11 while 11 lived",
    "effect run:1 22 bb 1 1 -": "epoch 1 of run run had effects in 22 and 11",
    "effect run:1 22 bb 1 2 -": "began in 22 while 11 lived",
    f"{_SEEN}\nkilling 11\neffect run:1 22 bb 1 2 -": "after its result was committed",
    f"{_SEEN}\ncommitted run:1 22 bb": "two results of run:1",
    "killing 11\nkilled 11\neffect run:1 22 bb 1 0 -": "began in epoch 1, and again in 0",
    "callback aa\ncallback aa": "called again",
}


def _read(text: str) -> Books:
    books = Books()
    books.read([line.split() for line in text.splitlines()])
    return books


@pytest.mark.parametrize("later", _WRONG)
def test_what_must_not_be_is_found(later: str) -> None:
    """Each contradiction of the ledger with itself is told."""
    assert any(_WRONG[later] in sentence for sentence in _read(f"{_EFFECT}\n{later}").wrong)


@pytest.mark.parametrize(
    "later",
    ["killing 11\neffect run:1 22 bb 1 2 -", "evicting 11\neffect run:1 22 bb 1 2 -", "effect run:1 11 bb 2 1 -"],
    ids=["killed", "evicted", "retried"],
)
def test_what_may_be_is_not_told(later: str) -> None:
    """An effect may begin again when its process dies or loses the run, and when it failed."""
    assert _read(f"{_EFFECT}\n{later}").wrong == []


def test_an_effect_after_the_death_of_whoever_committed_its_result_is_found() -> None:
    """Also when the worker died before it could note the commit."""
    books = _read(f"{_EFFECT}\nkilling 11\nkilled 11\neffect run:1 22 bb 1 2 -")
    assert list(books.late_effects({"run:1": "bb"})) == []
    (sentence,) = books.late_effects({"run:1": "aa"})
    assert "after the worker was dead" in sentence


def test_an_effect_on_a_result_that_was_lost_is_found() -> None:
    """What a step was given has to be in the journal."""
    books = _read(f"{_EFFECT}\neffect run:2 11 cc 1 1 aa")
    assert list(books.baseless_effects({"run:1": "aa"})) == []
    (sentence,) = books.baseless_effects({"run:1": "bb"})
    assert "no step's result" in sentence
