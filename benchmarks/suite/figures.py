"""The figures: what each one is called, which phase gives it, which way is better, and what we aim at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from suite.contenders import FLOOR, OURS

Medians = Mapping[str, Mapping[str, float]]
"""The median of each figure by contender and figure name; what was not measured is absent."""


class Target(NamedTuple):
    """What we aim at: its text, and the limit that our figure must keep, if it can be told from this run."""

    text: str
    limit: Callable[[Medians], float | None]


class Figure(NamedTuple):
    """One row of the tables."""

    name: str
    label: str
    phase: str
    more_is_better: bool
    target: Target | None = None


def _of_floor(factor: float, name: str, text: str) -> Target:
    def limit(medians: Medians) -> float | None:
        floor = medians.get(FLOOR, {}).get(name)
        return None if floor is None else factor * floor

    return Target(text, limit)


def _at(value: float, text: str) -> Target:
    return Target(text, lambda medians: value)


def _import_limit(medians: Medians) -> float | None:
    pydantic = medians.get(OURS, {}).get("import_pydantic_s")
    return None if pydantic is None else pydantic + 0.06


FIGURES = (
    Figure(
        "start_result_ms_p50",
        "start → 1 step → result, p50, ms",
        "latency",
        False,
        _of_floor(1.4, "start_result_ms_p50", "≤ 1.4 × floor"),
    ),
    Figure("start_result_ms_p95", "the same, p95, ms", "latency", False),
    Figure(
        "one_step_runs_per_s_c100",
        "1-step runs/s, 100 at once",
        "throughput",
        True,
        _of_floor(0.5, "one_step_runs_per_s_c100", "≥ 0.5 × floor"),
    ),
    Figure("cpu_ms_per_run", "processor time of one such run, ms", "throughput", False),
    Figure(
        "ten_step_steps_per_s_c100",
        "10-step runs, steps/s, 100 at once",
        "throughput",
        True,
        _of_floor(0.5, "ten_step_steps_per_s_c100", "≥ 0.5 × floor"),
    ),
    Figure(
        "one_run_1000_steps_per_s",
        "one run of 1,000 steps, steps/s",
        "long_runs",
        True,
        _of_floor(0.7, "one_run_1000_steps_per_s", "≥ 0.7 × floor"),
    ),
    Figure(
        "one_run_5000_steps_per_s",
        "one run of 5,000 steps, steps/s",
        "long_runs",
        True,
        _of_floor(0.7, "one_run_5000_steps_per_s", "≥ 0.7 × floor"),
    ),
    Figure(
        "vote_finished_ms_p50_memory",
        "vote → finished, in memory, p50, ms",
        "votes_in_memory",
        False,
        _of_floor(2.0, "vote_finished_ms_p50_memory", "≤ 2 × floor"),
    ),
    Figure(
        "vote_finished_ms_p50_parked",
        "vote → finished, parked, p50, ms",
        "votes_parked",
        False,
        _of_floor(2.0, "vote_finished_ms_p50_parked", "≤ 2 × floor"),
    ),
    Figure("fleet_runs", "runs waiting in the fleet", "fill_fleet", True),
    Figure("parked_bytes_per_run", "memory per waiting run, bytes", "fill_fleet", False, _at(1024, "≤ 1,024")),
    Figure("parked_bytes_per_further_run", "the same, second half of the fleet", "fill_fleet", False),
    Figure("parked_idle_cpu_percent", "idle processor time, %", "fill_fleet", False, _at(0.5, "none (≤ 0.5)")),
    Figure("restart_ready_s", "restart: open → ready for votes, s", "restart_fleet", False, _at(0.3, "≤ 0.3")),
    Figure("restart_first_finished_s", "restart: open → first run voted and finished, s", "restart_fleet", False),
    Figure(
        "vote_finish_all_per_s",
        "restart: voted and finished per s",
        "restart_fleet",
        True,
        _at(2000, "≥ 2,000"),
    ),
    Figure("import_s", "import, s", "startup", False, Target("≤ pydantic + 0.06", _import_limit)),
    Figure("import_pydantic_s", "import of pydantic alone, s", "startup", False),
    Figure(
        "process_to_first_result_s",
        "process start → first result, new file, s",
        "startup",
        False,
        _at(0.45, "≤ 0.45"),
    ),
)

PHASES = tuple(dict.fromkeys(figure.phase for figure in FIGURES))
