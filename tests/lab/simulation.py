"""Simulation (T6, T11, T17): the real engine on seeded event loops with virtual time.

Several processes share one file in one thread. Which of them goes on, when time passes, what fails, who dies, is
stopped or has a wrong clock, and what people do, follows from the number of the case.
"""

from __future__ import annotations

import gc
from unittest import mock

from tests.lab.harness import Harness, Tally, main
from tests.lab.sim.story import Story

REGRESSIONS = (
    598,  # a step that waited for a thread began after its run had gone on elsewhere
    6156,  # a process that evicted its own worker went on to claim runs with it
    6693,
)
"""Schedules that found a bug; what they do changes when the story does, so each bug has a test of its own as well."""


def case(number: int, tally: Tally) -> None:
    """One schedule."""
    trace(number, tally)


def trace(number: int, tally: Tally) -> int:
    """One schedule; gives a number that stands for everything that was committed in it, in order."""
    story = Story(f"simulation {number}")
    patch = mock.patch("osprotocol._embedded.store.check_filesystem")  # it reads a long list, and says nothing here
    patch.start()
    gc.disable()  # when an object goes is not to depend on what else this process did
    try:
        story.tell()
        story.check()
    finally:
        gc.enable()
        patch.stop()
        world = story.world
        tally.count("schedules")
        tally.count("turns", world.turns)
        tally.count("commits", world.commits)
        tally.count("deaths", world.deaths)
        tally.marks.update(world.reached)
        story.end()
    return world.trace


HARNESS = Harness(
    name="simulation",
    title="Simulation of processes, people, faults and clocks",
    case=case,
    full=300_000,
    small=300,
)

if __name__ == "__main__":
    main(HARNESS)
