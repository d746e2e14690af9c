"""The small share of the orders, and that the numbers of cases mean what they say."""

from __future__ import annotations

from tests.lab.harness import check_small
from tests.lab.permutations import EXHAUSTIVE, HARNESS, plan_of


def test_small_share() -> None:
    """Whatever the order of completions, replay hands out the same."""
    check_small(HARNESS)


def test_every_plan_has_a_number() -> None:
    """All orders of up to four branches are among the first cases, each once."""
    assert {plan_of(number) for number in range(len(EXHAUSTIVE))} == set(EXHAUSTIVE)
    assert len(plan_of(len(EXHAUSTIVE)).order) == 5
