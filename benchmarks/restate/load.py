"""What a client process measures, whatever it calls: runs one after the other, then many at once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

RESULT = "x" * 100
"""What the one step of every run returns."""


class Scale(NamedTuple):
    """Counts and time limits of one client process; every loop ends at its count or its time, what comes first."""

    warm_up_s: float
    sequential_runs: int
    sequential_limit_s: float
    at_once: int
    throughput_runs: int
    throughput_limit_s: float


FULL = Scale(2.0, 300, 15.0, 100, 6_000, 10.0)
QUICK = Scale(1.0, 60, 4.0, 100, 1_000, 3.0)
SCALES = {"full": FULL, "quick": QUICK}

Run = Callable[[], Awaitable[str]]


async def measure(run: Run, scale: Scale) -> None:
    """Warm up, measure both, and print the values as one line of JSON."""
    await _closed_loop(run, 20, sys.maxsize, scale.warm_up_s)
    latencies_ms = await _one_by_one(run, scale)
    runs, elapsed_s = await _closed_loop(run, scale.at_once, scale.throughput_runs, scale.throughput_limit_s)
    print(json.dumps({"latencies_ms": latencies_ms, "runs": runs, "elapsed_s": elapsed_s}), flush=True)


async def _one_by_one(run: Run, scale: Scale) -> list[float]:
    latencies_ms: list[float] = []
    until = time.perf_counter() + scale.sequential_limit_s
    while len(latencies_ms) < scale.sequential_runs and time.perf_counter() < until:
        began = time.perf_counter()
        await _checked(run)
        latencies_ms.append((time.perf_counter() - began) * 1_000)
    return latencies_ms


async def _closed_loop(run: Run, tasks: int, count: int, limit_s: float) -> tuple[int, float]:
    """Each of so many tasks begins its next run when its former has ended; gives what was done, and seconds."""
    started = finished = 0
    began = time.perf_counter()

    async def work() -> None:
        nonlocal started, finished
        while started < count and time.perf_counter() - began < limit_s:
            started += 1
            await _checked(run)
            finished += 1

    await asyncio.gather(*(work() for _ in range(tasks)))
    return finished, time.perf_counter() - began


async def _checked(run: Run) -> None:
    if await run() != RESULT:
        raise RuntimeError("the run has another result")
