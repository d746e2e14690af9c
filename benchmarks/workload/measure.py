"""The measurements. Each takes an opened contender and returns figures by name."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO

from workload.contender import Contender, UnsupportedError
from workload.process import resident_bytes
from workload.scale import Scale

Figures = dict[str, float]

CONCURRENCY = 100
WARM_UP_CONCURRENCY = 20


async def warm_up(contender: Contender, scale: Scale) -> None:
    """Run for a fixed time, so that code, caches and the write-ahead log are in their steady state."""
    await _closed_loop(lambda: contender.run(1), WARM_UP_CONCURRENCY, math.inf, scale.warm_up_s)


async def latency(contender: Contender, scale: Scale) -> Figures:
    """One-step runs, one after the other."""
    await warm_up(contender, scale)
    times_ms = []
    for _ in range(scale.sequential_runs):
        began = time.perf_counter()
        await contender.run(1)
        times_ms.append((time.perf_counter() - began) * 1000)
    return {
        "start_result_ms_p50": statistics.median(times_ms),
        "start_result_ms_p95": statistics.quantiles(times_ms, n=20)[-1],
    }


async def throughput(contender: Contender, scale: Scale) -> Figures:
    """Runs of one and of ten steps, 100 at once, each task starting the next when its former has finished."""
    await warm_up(contender, scale)
    limit_s = scale.throughput_limit_s
    cpu_began = time.process_time()
    runs, elapsed_s = await _closed_loop(lambda: contender.run(1), CONCURRENCY, scale.one_step_runs, limit_s)
    cpu_s = time.process_time() - cpu_began
    ten_step_runs, ten_step_elapsed_s = await _closed_loop(
        lambda: contender.run(10), CONCURRENCY, scale.ten_step_runs, limit_s
    )
    return {
        "one_step_runs_per_s_c100": runs / elapsed_s,
        "cpu_ms_per_run": cpu_s * 1000 / runs,
        "ten_step_steps_per_s_c100": ten_step_runs * 10 / ten_step_elapsed_s,
    }


async def long_runs(contender: Contender, scale: Scale) -> Figures:
    """One run of many steps with nothing else under way."""
    await warm_up(contender, scale)
    figures = {}
    for steps in scale.long_runs:
        began = time.perf_counter()
        await contender.run(steps)
        figures[f"one_run_{steps}_steps_per_s"] = steps / (time.perf_counter() - began)
    return figures


async def votes_in_memory(contender: Contender, scale: Scale) -> Figures:
    """From the vote to the result, one run at a time, while the run stays in memory."""
    if not contender.can_linger:
        raise UnsupportedError("its waiting runs never stay in memory")
    await warm_up(contender, scale)
    times_ms = []
    deadline = time.perf_counter() + scale.votes_limit_s
    for _ in range(scale.votes):
        run_id = await contender.ask(linger=True)
        await contender.wait_until_waiting(run_id)
        times_ms.append(await _timed_vote_ms(contender, run_id))
        if time.perf_counter() > deadline:
            break
    return {"vote_finished_ms_p50_memory": statistics.median(times_ms)}


async def votes_parked(contender: Contender, scale: Scale) -> Figures:
    """From the vote to the result, one run at a time, after the run was unwound from memory."""
    if not contender.can_park:
        raise UnsupportedError("its waiting runs always stay in memory")
    await warm_up(contender, scale)
    run_ids = [await contender.ask(linger=False) for _ in range(scale.votes)]
    await contender.park(run_ids)
    deadline = time.perf_counter() + scale.votes_limit_s
    times_ms = []
    for run_id in run_ids:
        times_ms.append(await _timed_vote_ms(contender, run_id))
        if time.perf_counter() > deadline:
            break
    return {"vote_finished_ms_p50_parked": statistics.median(times_ms)}


async def fill_fleet(contender: Contender, scale: Scale, ids_file: Path) -> Figures:
    """Memory and idle processor time of a fleet of waiting runs. Their ids go to a file, not to memory."""
    await warm_up(contender, scale)
    half_runs, half_limit_s = scale.fleet_runs // 2, scale.fleet_fill_limit_s / 2
    with ids_file.open("w") as ids:
        await _fill(contender, scale, ids, scale.fleet_warm_up_runs, half_limit_s)
        empty_bytes = _settled_bytes()
        first = await _fill(contender, scale, ids, half_runs, half_limit_s)
        half_bytes = _settled_bytes()
        second = await _fill(contender, scale, ids, half_runs, half_limit_s)
        full_bytes = _settled_bytes()
    cpu_began, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(scale.idle_s)
    idle = (time.process_time() - cpu_began) / (time.perf_counter() - began)
    return {
        "fleet_runs": first + second,
        "parked_bytes_per_run": (full_bytes - empty_bytes) / (first + second),
        "parked_bytes_per_further_run": (full_bytes - half_bytes) / second,
        "parked_idle_cpu_percent": idle * 100,
    }


async def restart_fleet(contender: Contender, scale: Scale, ids_file: Path, opened_at: float) -> Figures:
    """In a new process: from opening to ready, to the first finished run, and then all of them."""
    run_ids = ids_file.read_text().split()
    await contender.wait_until_waiting(run_ids[0])
    ready_s = time.perf_counter() - opened_at
    await contender.vote(run_ids[0])
    first_finished_s = time.perf_counter() - opened_at
    began = time.perf_counter()
    finished = await contender.vote_all(run_ids[1:], scale.fleet_vote_limit_s)
    return {
        "restart_ready_s": ready_s,
        "restart_first_finished_s": first_finished_s,
        "vote_finish_all_per_s": finished / (time.perf_counter() - began),
    }


async def _fill(contender: Contender, scale: Scale, ids: IO[str], count: int, limit_s: float) -> int:
    """Start runs that wait; let the contender unwind them, or become quiet if it keeps them."""
    begin = ids.tell()

    async def ask() -> None:
        ids.write(await contender.ask(linger=False) + "\n")

    runs, _ = await _closed_loop(ask, CONCURRENCY, count, limit_s)
    ids.flush()
    if contender.can_park:
        with open(ids.name) as started:
            started.seek(begin)
            await contender.park(line.rstrip() for line in started)
    else:
        await asyncio.sleep(scale.settle_s)
    return runs


def _settled_bytes() -> int:
    gc.collect()
    return resident_bytes()


async def _timed_vote_ms(contender: Contender, run_id: str) -> float:
    began = time.perf_counter()
    await contender.vote(run_id)
    return (time.perf_counter() - began) * 1000


async def _closed_loop(
    operation: Callable[[], Awaitable[None]], tasks: int, count: float, limit_s: float
) -> tuple[int, float]:
    """Run `operation` in so many tasks until count or time is reached; return what was done, and seconds."""
    started = finished = 0
    began = time.perf_counter()
    deadline = began + limit_s

    async def work() -> None:
        nonlocal started, finished
        while started < count and time.perf_counter() < deadline:
            started += 1
            await operation()
            finished += 1

    await asyncio.gather(*(work() for _ in range(tasks)))
    return finished, time.perf_counter() - began
