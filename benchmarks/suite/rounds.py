"""The order of the work: each phase goes through all contenders before the next, so drift meets all alike."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from suite import phases
from suite.contenders import Contender
from suite.results import Results

ONCE = frozenset({"long_runs", *phases.FLEET_PHASES})
"""Phases that a slow contender does in the first round only."""


class Task(NamedTuple):
    """One phase of one contender in one round."""

    round: int
    phase: str
    contender: Contender


def plan(contenders: Sequence[Contender], phase_names: Sequence[str], rounds: int) -> Iterator[Task]:
    """All tasks in order; each round begins with another contender."""
    for number in range(rounds):
        first = number % len(contenders)
        for phase in phase_names:
            for contender in (*contenders[first:], *contenders[:first]):
                if number == 0 or not (contender.once and phase in ONCE):
                    yield Task(number, phase, contender)


def work(tasks: Sequence[Task], pythons: Mapping[str, Path], data: Path, scale: str, results: Results) -> None:
    """Do all tasks, each on a new file below `data`, and put what they give into `results`."""
    with tempfile.TemporaryDirectory(dir=data) as folder:
        for position, task in enumerate(tasks, start=1):
            began = time.perf_counter()
            _do(task, pythons[task.contender.environment], Path(folder), scale, results)
            print(
                f"{position}/{len(tasks)} round {task.round + 1} {task.phase} {task.contender.name}"
                f" {time.perf_counter() - began:.1f} s",
                file=sys.stderr,
                flush=True,
            )


def _do(task: Task, python: Path, folder: Path, scale: str, results: Results) -> None:
    directory_of = "fleet" if task.phase in phases.FLEET_PHASES else task.phase
    directory = folder / f"{task.round}-{directory_of}-{task.contender.name}"
    directory.mkdir(exist_ok=task.phase == "restart_fleet")
    try:
        if task.phase == "startup":
            outcome = phases.startup(task.contender, python, directory, scale)
        else:
            outcome = phases.run(task.contender, python, task.phase, directory, scale)
    except phases.PhaseFailedError as failure:
        results.fail(task.contender.name, task.phase, str(failure))
    else:
        results.add(task.contender.name, task.phase, outcome)
