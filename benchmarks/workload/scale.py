"""How much of each piece of work is done. Every loop ends at its count or its time, whichever comes first."""

from __future__ import annotations

from typing import NamedTuple


class Scale(NamedTuple):
    """Counts and time limits of one measurement process."""

    warm_up_s: float
    sequential_runs: int
    one_step_runs: int
    ten_step_runs: int
    throughput_limit_s: float
    long_runs: tuple[int, ...]
    votes: int
    votes_limit_s: float
    fleet_warm_up_runs: int
    fleet_runs: int
    fleet_fill_limit_s: float
    fleet_vote_limit_s: float
    settle_s: float
    idle_s: float


FULL = Scale(
    warm_up_s=1.5,
    sequential_runs=300,
    one_step_runs=20_000,
    ten_step_runs=3_000,
    throughput_limit_s=5.0,
    long_runs=(1_000, 5_000),
    votes=100,
    votes_limit_s=8.0,
    fleet_warm_up_runs=200,
    fleet_runs=10_000,
    fleet_fill_limit_s=30.0,
    fleet_vote_limit_s=20.0,
    settle_s=2.0,
    idle_s=5.0,
)

QUICK = Scale(
    warm_up_s=0.5,
    sequential_runs=100,
    one_step_runs=2_000,
    ten_step_runs=300,
    throughput_limit_s=1.0,
    long_runs=(1_000,),
    votes=30,
    votes_limit_s=2.0,
    fleet_warm_up_runs=100,
    fleet_runs=1_000,
    fleet_fill_limit_s=2.0,
    fleet_vote_limit_s=3.0,
    settle_s=0.5,
    idle_s=1.5,
)

BY_NAME = {"full": FULL, "quick": QUICK}
