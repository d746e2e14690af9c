"""Where the benchmark finds and puts things."""

from __future__ import annotations

from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent
CHECKOUT = BENCHMARKS.parent
WORK = CHECKOUT / ".bench"
ENVIRONMENTS = WORK / "environments"
DATA = WORK / "data"
README = BENCHMARKS / "README.md"
