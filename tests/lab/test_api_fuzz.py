"""The API fuzzer's small share: a few operations, whose answers are as described."""

from __future__ import annotations

from tests.lab import api_fuzz
from tests.lab.harness import check_small


def test_small_share() -> None:
    """Runs, requests and workflows; tests/server/api/test_schemathesis.py has every operation."""
    check_small(api_fuzz.HARNESS)
