"""A nursery, a database and a ledger for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.nursery import Nursery
from tests.processes.programs import Ledger


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """Forks processes; none of them outlives the test."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that all processes of a test open."""
    return tmp_path / "runs.db"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """What really happened."""
    return Ledger(tmp_path / "ledger")
