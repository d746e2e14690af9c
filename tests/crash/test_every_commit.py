"""A process dies at every commit of a run, once before and once after it; the next one brings the run to its end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osprotocol import RunOptions
from osprotocol.errors import RunCancelledError, RunFailedError
from tests.crash import scenarios
from tests.crash.checks import problems
from tests.crash.clock import ManualClock
from tests.crash.ledger import Ledger
from tests.crash.life import Life, live
from tests.crash.scenarios import SCENARIOS, Scenario

_MOST_COMMITS = 200
_PATIENCE = 400


class World:
    """A database, the time and the outside ledger of one crash experiment."""

    def __init__(self, path: Path, scenario: Scenario, linger_ms: int) -> None:
        self.path = path
        self.scenario = scenario
        self.linger_ms = linger_ms
        self.clock = ManualClock()
        self.ledger = Ledger(path)
        self.deaths = 0
        scenarios.set_world(self.ledger)

    async def live(self, dies_at: int = 0, *, after: bool = False) -> tuple[str, Any] | None:
        """One process: it starts the run, or finds it by its key, and works until the end or its death."""
        life = Life(self.path, self.clock, dies_at=dies_at, dies_after=after, linger_ms=self.linger_ms)
        self.ledger.begin_life(life)
        ended = await live(life, self._script)
        if ended is None:
            self.deaths += 1
        return ended

    async def _script(self, life: Life) -> tuple[str, Any]:
        scenario = self.scenario
        options = RunOptions(idempotency_key="the-run")
        execution = await life.client.create_run(scenario.workflow, scenario.input, options).start()
        waited = 0
        while not execution.status.is_final:
            still = await life.settle()
            if await scenario.people(execution, self.ledger):
                continue
            if still and not life.clock.jump():
                waited += 1
                assert waited < _PATIENCE, f"{execution} stands still: {execution.snapshot}"
                await asyncio.sleep(0.002)
        try:
            return str(execution.status), await execution.result
        except RunCancelledError as error:
            return str(execution.status), error.reason
        except RunFailedError as error:
            return str(execution.status), str(error)

    def check(self, told: str) -> None:
        """Nothing that must never happen has happened."""
        assert self.ledger.wrong == [], told
        assert problems(self.path) == [], told

    def check_end(self, ended: tuple[str, Any], told: str) -> None:
        """The run ended as it has to, and no effect happened more often than deaths allow."""
        self.check(told)
        status, value = ended
        assert status == self.scenario.status, f"{told}: {ended}"
        assert self.scenario.result(value), f"{told}: {ended}"
        for label in self.scenario.labels:
            assert self.ledger.labels[label], f"{told}: effect {label} never happened"
        for label, times in self.ledger.labels.items():
            tries = 3 if label == "unsure" else 1
            assert times <= tries + self.deaths, f"{told}: effect {label} happened {times} times"


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
