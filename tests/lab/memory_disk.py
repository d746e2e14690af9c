"""Folders in memory for harnesses to which the disk is not the point."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A new folder, in memory where the system has such a place; removed afterwards, also after a failure."""
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="osprotocol-lab-", dir=place, ignore_cleanup_errors=True) as name:
        yield Path(name)
