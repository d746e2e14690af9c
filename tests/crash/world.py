"""One crash experiment: a database, the time, the outside ledger, and the people of a scenario over several lives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from osprotocol import Execution, RunOptions
from osprotocol.errors import RunCancelledError, RunFailedError
from tests.crash import scenarios
from tests.crash.checks import account, problems
from tests.crash.clock import ManualClock
from tests.crash.ledger import Ledger
from tests.crash.life import Life, live
from tests.crash.scenarios import Scenario

_PATIENCE = 400


class World:
    """A database, the time and the outside ledger of one crash experiment.

    Args:
        clock, ledger, deaths: what an earlier experiment left, if this one goes on with it.
    """

    def __init__(
        self,
        path: Path,
        scenario: Scenario,
        linger_ms: int,
        *,
        clock: ManualClock | None = None,
        ledger: Ledger | None = None,
        deaths: int = 0,
    ) -> None:
        self.path = path
        self.scenario = scenario
        self.linger_ms = linger_ms
        self.clock = clock or ManualClock()
        self.ledger = ledger or Ledger(path)
        self.deaths = deaths
        scenarios.set_world(self.ledger)

    def most(self, label: str) -> int:
        """How often an effect may have happened: each death can repeat it once."""
        return (3 if label == "unsure" else 1) + self.deaths

    def opening(self, life: Life) -> None:
        """A new process is about to open the database."""

    async def afterwards(self, life: Life, execution: Execution[Any]) -> None:
        """What is done once the run has ended."""

    async def live(self, dies_at: int = 0, *, after: bool = False) -> tuple[str, Any] | None:
        """One process: it starts the run, or finds it by its key, and works until the end or its death."""
        life = Life(self.path, self.clock, dies_at=dies_at, dies_after=after, linger_ms=self.linger_ms)
        self.ledger.begin_life(life)
        self.opening(life)
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
                assert waited < _PATIENCE, f"{execution} stands still: {execution.snapshot}; {account(self.path)}"
                await asyncio.sleep(0.002)
        try:
            ended = str(execution.status), await execution.result
        except RunCancelledError as error:
            ended = str(execution.status), error.reason
        except RunFailedError as error:
            ended = str(execution.status), str(error)
        await self.afterwards(life, execution)
        return ended

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
            assert times <= self.most(label), f"{told}: effect {label} happened {times} times"
