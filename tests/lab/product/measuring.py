"""Measuring a living process from outside, and whether what was measured grows."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_DAY_S = 86_400.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """A process at one instant."""

    at: float
    rss_mb: float
    descriptors: int
    threads: int
    wal_mb: float


def sample(at: float, pid: int, database: Path) -> Sample:
    """Look at a process and at the log of its database."""
    process = Path(f"/proc/{pid}")
    resident = int((process / "statm").read_text().split()[1]) * _PAGE
    status = (process / "status").read_text()
    threads = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Threads:"))
    wal = database.with_name(f"{database.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    return Sample(at, resident / 1e6, len(list((process / "fd").iterdir())), threads, size / 1e6)


@dataclass(frozen=True)
class Slope:
    """A straight line through measurements, by least squares.

    Attributes:
        per_day: growth in a day.
        error_per_day: standard error of it: what the noise alone does.
        growth: growth over the time that was measured.
    """

    per_day: float
    error_per_day: float
    growth: float

    def surely_above(self, per_day: float) -> bool:
        """Whether it grows faster than that, however the noise fell: by three standard errors."""
        return self.per_day - 3 * self.error_per_day > per_day


def slope_of(times: Sequence[float], values: Sequence[float]) -> Slope:
    """The line through these points; at least three, at different times."""
    count = len(times)
    middle, mean = sum(times) / count, sum(values) / count
    spread = sum((time - middle) ** 2 for time in times)
    slope = sum((time - middle) * (value - mean) for time, value in zip(times, values, strict=True)) / spread
    left = sum((value - mean - slope * (time - middle)) ** 2 for time, value in zip(times, values, strict=True))
    error = math.sqrt(left / (count - 2) / spread)
    return Slope(slope * _DAY_S, error * _DAY_S, slope * (max(times) - min(times)))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them is; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
