"""A small fleet that outlives a kill."""

from __future__ import annotations

from tests.lab.harness import check_small
from tests.lab.parked import HARNESS


def test_small_share() -> None:
    """Nothing goes on early, everything goes on once."""
    check_small(HARNESS)
