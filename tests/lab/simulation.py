"""Simulation (T6, T11, T17): the real engine on seeded event loops with virtual time.

Several processes share one file in one thread. Which of them goes on, when time passes, what fails, who dies, is
stopped or has a wrong clock, and what people do, follows from the number of the case. What a number does changes with
the story; so each bug that was found here has a plain test of its scenario as well, in tests/engine.
"""

from __future__ import annotations

import gc

from tests.lab.harness import Harness, Tally, main
from tests.lab.sim.story import Story


def case(number: int, tally: Tally) -> None:
    """One schedule."""
    trace(number, tally)


def trace(number: int, tally: Tally) -> int:
    """One schedule; gives a number that stands for everything that was committed in it, in order."""
    story = Story(f"simulation {number}")
    gc.disable()  # when an object goes is not to depend on what else this process did
    try:
        story.tell()
        story.check()
    finally:
        gc.enable()
        world = story.world
        tally.count("schedules")
        tally.count("turns", world.turns)
        tally.count("commits", world.commits)
        tally.count("deaths", world.deaths)
        tally.marks.update(world.reached)
        story.end()
    return world.trace


_OFTEN = (
    "a caller gave up in the middle",
    "a clock was set back",
    "a clock was set forward",
    "a commit of unknown outcome had happened",
    "a deadline came before its vote",
    "a run was started twice with one key",
    "an answer came too late",
    "an effect was had again",
    "cancel: cancelled",
    "cancel: cancelling",
    "commit: busy",
    "commit: die after",
    "commit: die before",
    "commit: refused",
    "evicted",
    "killed",
    "paused",
    "stopped for a while",
)

HARNESS = Harness(
    name="simulation",
    title="Simulation of processes, people, faults and clocks",
    case=case,
    full=300_000,
    small=300,
    share=4_000,
    quotas={
        **dict.fromkeys(_OFTEN, 4_000),
        "a caller was told of trouble": 1_000,
        "a vote came before its deadline": 1_000,
        "killed during an effect": 1_000,
        "a record of an old epoch was refused": 2_000,
        "an effect overlapped with its successor": 100,
        "an effect began while a pause was on its way": 50,
    },
    small_marks=("commit: unknown", "commit: die after", "killed", "evicted", "an effect was had again", "paused"),
)

if __name__ == "__main__":
    main(HARNESS)
