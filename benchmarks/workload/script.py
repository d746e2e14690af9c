"""The command line of a contender's script: one phase in one process, one JSON object on standard output.

    python floor_bench.py PHASE DIRECTORY SCALE VARIANT

The first phase imports nothing that a plain program would not need, because its process start is timed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workload.contender import UnsupportedError

if TYPE_CHECKING:
    from workload.contender import Contender

CLOSE_LIMIT_S = 5.0
IDS_FILE = "fleet-ids.txt"


def main(make: Callable[[str], Contender], environment: Callable[[], dict[str, str]]) -> None:
    """Run the phase that the command line names.

    Args:
        make: Builds the contender in the named variant.
        environment: Names the versions that were used.
    """
    phase, directory, scale, variant = sys.argv[1:5]
    exit_code = 1
    try:
        asyncio.run(_run(make(variant), phase, Path(directory), scale, environment))
        exit_code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(exit_code)  # Some engines keep threads that outlive their closing.


async def _run(
    contender: Contender, phase: str, directory: Path, scale: str, environment: Callable[[], dict[str, str]]
) -> None:
    opened_at = time.perf_counter()
    await contender.open(directory)
    report: dict[str, Any] = {"figures": {}, "notes": {}}
    if phase == "first_result":
        await contender.run(1)
    else:
        try:
            report["figures"] = await _measure(contender, phase, directory, scale, opened_at)
        except UnsupportedError as reason:
            report["notes"][phase] = str(reason)
        report["environment"] = environment()
    print(json.dumps(report), flush=True)
    await asyncio.wait_for(contender.close(), CLOSE_LIMIT_S)


async def _measure(
    contender: Contender, phase: str, directory: Path, scale_name: str, opened_at: float
) -> dict[str, float]:
    from workload import measure
    from workload.scale import BY_NAME

    scale = BY_NAME[scale_name]
    if phase == "fill_fleet":
        return await measure.fill_fleet(contender, scale, directory / IDS_FILE)
    if phase == "restart_fleet":
        return await measure.restart_fleet(contender, scale, directory / IDS_FILE, opened_at)
    phases = {
        "latency": measure.latency,
        "throughput": measure.throughput,
        "long_runs": measure.long_runs,
        "votes_in_memory": measure.votes_in_memory,
        "votes_parked": measure.votes_parked,
    }
    return await phases[phase](contender, scale)
