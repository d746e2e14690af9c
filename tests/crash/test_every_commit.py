"""A process dies at every commit of a run, once before and once after it; the next one brings the run to its end."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.scenarios import SCENARIOS, Scenario
from tests.crash.world import World

_MOST_COMMITS = 200


@contextlib.contextmanager
def _world(folder: Path, scenario: Scenario, linger_ms: int) -> Iterator[World]:
    folder.mkdir(parents=True)
    world = World(folder / "runs.db", scenario, linger_ms)
    try:
        yield world
    finally:
        world.ledger.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("linger_ms", [60_000, 0], ids=["in-memory", "parked"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_death_at_any_commit_costs_no_result(
    scenario: Scenario, linger_ms: int, after: bool, tmp_path: Path
) -> None:
    """Whichever commit a process dies at, the run ends right and no committed effect happens again."""
    for number in range(1, _MOST_COMMITS):
        with _world(tmp_path / str(number), scenario, linger_ms) as world:
            told = f"{scenario.name}, death {'after' if after else 'before'} commit {number}"
            ended = await world.live(number, after=after)
            world.check(told)
            if ended is not None:
                world.check_end(ended, told)
                break
            ended = await world.live()
            assert ended is not None
            world.check_end(ended, told)
    else:
        pytest.fail(f"{scenario.name} has more than {_MOST_COMMITS} commits")


@pytest.mark.long
async def test_two_deaths_at_any_commits_cost_no_result(tmp_path: Path, budget_s: float) -> None:
    """Two deaths in one run, at commits chosen at random for as long as the budget lasts, cost no result either."""
    chance = random.Random()
    end_s = time.monotonic() + budget_s
    while time.monotonic() < end_s:
        scenario, linger_ms = chance.choice(SCENARIOS), chance.choice((0, 60_000))
        deaths = [(chance.randint(1, 30), chance.random() < 0.5) for _ in range(2)]
        await _survives(tmp_path / "world", scenario, linger_ms, deaths)


@pytest.mark.parametrize("second", range(2, 9))
async def test_a_second_death_while_a_parent_and_its_child_are_recovered_costs_no_result(
    second: int, tmp_path: Path
) -> None:
    """A parent that is claimed in the commit in which its child begins to wait learns of it."""
    (scenario,) = (one for one in SCENARIOS if one.name == "cancelled")
    for after in (False, True):
        await _survives(tmp_path / "world", scenario, 60_000, [(6, True), (second, after)])


async def _survives(folder: Path, scenario: Scenario, linger_ms: int, deaths: list[tuple[int, bool]]) -> None:
    told = f"{scenario.name}, linger {linger_ms} ms, deaths (commit, after) {deaths}"
    with _world(folder, scenario, linger_ms) as world:
        ended = None
        for dies_at, after in (*deaths, (0, False)):
            try:
                ended = ended or await world.live(dies_at, after=after)
            except AssertionError as error:
                raise AssertionError(f"{told}: {error}") from None
            world.check(told)
        assert ended is not None, told
        world.check_end(ended, told)
    shutil.rmtree(folder)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_without_a_death_every_effect_happens_once(scenario: Scenario, tmp_path: Path) -> None:
    """A run in a process that lives has each of its effects exactly once."""
    with _world(tmp_path / "once", scenario, 60_000) as world:
        ended = await world.live()
        assert ended is not None
        world.check_end(ended, scenario.name)
