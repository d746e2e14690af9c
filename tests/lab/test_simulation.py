"""The simulation in small, and that it is what it says: the same again for the same number, and real engines."""

import os
import subprocess
import sys
from pathlib import Path

from tests.lab import simulation
from tests.lab.harness import Tally, check_small

_ROOT = Path(__file__).resolve().parent.parent.parent
_TRACES = """
from tests.lab import simulation
from tests.lab.harness import Tally
print([simulation.trace(number, Tally()) for number in range(20, 28)])
"""


def test_no_schedule_violates_a_guarantee() -> None:
    check_small(simulation.HARNESS)


def test_the_same_number_is_the_same_schedule_in_any_process() -> None:
    """Event for event, whatever the order of hashes and whatever the process did before."""

    def traces(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run(
            [sys.executable, "-c", _TRACES], cwd=_ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return ran.stdout

    assert traces("1") == traces("2")


def test_different_numbers_are_different_schedules() -> None:
    assert len({simulation.trace(number, Tally()) for number in range(10)}) == 10
