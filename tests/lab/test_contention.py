"""A few processes on one file."""

from __future__ import annotations

from tests.lab.contention import HARNESS
from tests.lab.harness import check_small


def test_small_share() -> None:
    """Every run is executed once, whoever claims it."""
    check_small(HARNESS)
