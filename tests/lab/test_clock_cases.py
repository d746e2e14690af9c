"""The small share of the clock cases."""

from __future__ import annotations

import os

from tests.lab.clock_cases import CASES, HARNESS, local_zone
from tests.lab.harness import check_small


def test_small_share() -> None:
    """Every change and every situation is among them."""
    check_small(HARNESS)


def test_every_pair_has_a_number() -> None:
    """The full share has each change in each situation."""
    assert len({number * 13 % len(CASES) for number in range(HARNESS.full)}) == len(CASES)


def test_the_time_zone_is_put_back() -> None:
    """Also when it was not set at all."""
    before = os.environ.get("TZ")
    with local_zone("Pacific/Apia"):
        assert os.environ["TZ"] == "Pacific/Apia"
    assert os.environ.get("TZ") == before
