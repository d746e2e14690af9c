"""Branches of a gather complete in every order, with deaths between: replay hands the code the order that it saw.

A case is a kind of branch, an order of completions, and how the process fares: whether it dies after each completion,
and whether what waits is taken out of memory. All orders of up to four branches come first, then sampled ones of five.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from osprotocol import Context, Execution, step, workflow
from osprotocol._embedded import suspects
from osprotocol._ids import Ids
from tests.crash.checks import problems
from tests.crash.clock import ManualClock
from tests.crash.life import Life
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.memory_disk import folder_in_memory

KINDS = ("steps", "children", "sleeps", "approvals", "mixed", "failures", "map")
_S = 1_000_000
_PATIENCE = 400
_CALM_ROUNDS = 12


@dataclass
class World:
    """What really happened in one case, outside of the engine.

    Attributes:
        gates: steps that are under way, by branch, in the life that is now.
        begun: how often each branch's step began.
        passes: what the code saw in each pass: the branches in the order in which they went on.
    """

    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    begun: Counter[int] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    passes: list[list[int]] = field(default_factory=list)


_world: list[World] = []


@step(name="permutations.gated", raises=(KeyError,))
async def gated(branch: int, fails: bool = False) -> int:
    """Waits until the case lets it go on."""
    world = _world[0]
    world.begun[branch] += 1
    gate = world.gates[branch] = asyncio.Event()
    await gate.wait()
    if fails:
        raise KeyError(branch)
    return branch


@step(name="permutations.note")
async def note(seen: list[int]) -> int:
    """An effect whose argument is the order so far: another order on replay is a mismatch."""
    _world[0].notes[str(seen)] += 1
    return len(seen)


@workflow(name="permutations.child")
async def child(ctx: Context, branch: int) -> int:
    return await ctx.step(gated, branch)


async def _operation(ctx: Context, kind: str, branch: int, place: int) -> Any:
    if kind in ("steps", "failures"):
        return await ctx.step(gated, branch, kind == "failures")
    if kind == "children":
        return await ctx.run(child, branch)
    if kind == "sleeps":
        await ctx.sleep(ms=1_000 * (place + 1))
        return branch
    return await _approved(ctx, branch)


async def _approved(ctx: Context, branch: int) -> int:
    approval = await ctx.wait_for_approval(f"branch {branch}")
    return branch if approval.approved else -1


def kind_of(kind: str, branch: int) -> str:
    """What one branch does."""
    return ("steps", "children", "sleeps", "approvals", "steps")[branch] if kind == "mixed" else kind


@workflow(name="permutations.gather")
async def gathered(ctx: Context, asked: tuple[str, list[int]]) -> list[Any]:
    """Every branch tells when it goes on; then a person is asked, so that all of it is replayed once more."""
    kind, order = asked
    seen: list[int] = []
    _world[0].passes.append(seen)

    async def branch(number: int) -> int:
        done = await _operation(ctx, kind_of(kind, number), number, order.index(number))
        seen.append(number)
        await ctx.step(note, list(seen))
        return int(done)

    if kind == "map":
        results: Any = await ctx.map(gated, range(len(order)), max_concurrency=len(order))
    elif kind == "failures":
        results = await _first_failure(ctx, len(order))
    else:
        results = await ctx.gather(*(branch(number) for number in range(len(order))))
    await ctx.wait_for_approval("end")
    return [list(results), seen]


async def _first_failure(ctx: Context, size: int) -> list[int]:
    try:
        await ctx.gather(*(ctx.step(gated, number, True) for number in range(size)))
    except KeyError as error:
        return [int(error.args[0])]
    return [-1]


@dataclass(frozen=True)
class Plan:
    """What one case does."""

    kind: str
    order: tuple[int, ...]
    dies: bool
    parks: bool

    def __str__(self) -> str:
        deaths = "a death after each completion" if self.dies else "one death at the end"
        return f"{self.kind} in the order {list(self.order)}, {deaths}, {'parking' if self.parks else 'lingering'}"


_ORDERS = [order for size in (2, 3, 4) for order in itertools.permutations(range(size))]
EXHAUSTIVE = [
    Plan(kind, order, dies, parks)
    for order in _ORDERS
    for kind in KINDS
    for dies in (True, False)
    for parks in (False, True)
]
_STRIDE = 37
"""So that a few cases in a row are of many kinds; it shares no factor with how many there are."""


def plan_of(number: int) -> Plan:
    """The plan of a case."""
    if number < len(EXHAUSTIVE):
        return EXHAUSTIVE[number * _STRIDE % len(EXHAUSTIVE)]
    chance = random.Random(f"permutations {number}")
    order = tuple(chance.sample(range(5), 5))
    return Plan(chance.choice(KINDS), order, chance.random() < 0.7, chance.random() < 0.5)


class Driver:
    """One run of a plan, over all of its lives."""

    def __init__(self, plan: Plan, path: Path) -> None:
        self.plan = plan
        self.path = path
        self.clock = ManualClock()
        self.ids = Ids(3)
        self.world = World()
        self.run_id = ""
        self.deaths = 0

    async def live(self) -> None:
        await self._open()
        asked = (self.plan.kind, list(self.plan.order))
        self.run_id = (await self.life.client.create_run(gathered, asked).start()).id
        await self._until_calm()
        for place, branch in enumerate(self.plan.order):
            await self._complete(branch, place)
            if self._dies_after(place):
                await self._die()
            if self.plan.kind == "failures" and self.plan.dies:
                break  # after the first failure nothing begins, also not again
        await self._approve("end", self.run_id)
        await self._until_calm()
        execution = await self._execution()
        if execution.status != "completed":
            raise Violation(f"{self.plan}: the run is {execution.status}: {execution.waiting_on}")
        self._judge(await execution.result)
        await self.life.close()

    def _dies_after(self, place: int) -> bool:
        is_last = place == len(self.plan.order) - 1
        # A child that several workers died with is held as poison.
        is_often = self.plan.kind not in ("children", "mixed") or place == 0
        return is_last or (self.plan.dies and is_often)

    async def _open(self) -> None:
        self.world.gates.clear()
        self.life = Life(self.path, self.clock, linger_ms=0 if self.plan.parks else 600_000, ids=self.ids)
        await self.life.client.open()

    async def _die(self) -> None:
        self.deaths += 1
        before = list(self.world.passes[-1])
        await self.life.die()
        await self._open()
        await self._until_calm()
        if self.world.passes[-1][: len(before)] != before:
            raise Violation(f"{self.plan}: the code saw {before}, and after a death {self.world.passes[-1]}")

    async def _execution(self) -> Execution[Any]:
        return await (await self.life.client.get(self.run_id, gathered)).refresh()

    async def _until_calm(self) -> None:
        """Wait until nothing is left to commit; steps that wait for us may be under way."""
        quiet = 0
        while quiet < _CALM_ROUNDS:
            engine = self.life.engine
            assert engine is not None
            await asyncio.sleep(0.0005 if engine.writer._in_flight else 0)
            quiet = quiet + 1 if engine.writer.is_idle and not engine.worker._tasks else 0

    async def _complete(self, branch: int, place: int) -> None:
        """Let one branch complete, and wait until the code has gone on."""
        kind = kind_of(self.plan.kind, branch)
        if kind == "sleeps":
            self.clock.set(max(self.clock.now(), _START + (place + 1) * _S))
        elif kind == "approvals":
            await self._approve(f"branch {branch}", self.run_id)
        else:
            await self._until(lambda: branch in self.world.gates, f"the step of branch {branch} does not begin")
            self.world.gates[branch].set()
        await self._until_calm()
        await self._committed(branch, kind)

    async def _committed(self, branch: int, kind: str) -> None:
        """The branch's own completion is in the file; a step that begins again after this is a violation."""
        if kind == "map" or kind == "failures":
            return
        for _ in range(_PATIENCE):
            if any(branch in seen for seen in self.world.passes[-1:]):
                break
            await asyncio.sleep(0.001)
            await self._until_calm()
        else:
            raise Violation(f"{self.plan}: branch {branch} does not go on; the code saw {self.world.passes}")

    async def _until(self, condition: Any, complaint: str) -> None:
        for _ in range(_PATIENCE):
            if condition():
                return
            await asyncio.sleep(0.001)
        raise Violation(f"{self.plan}: {complaint}")

    async def _approve(self, prompt: str, run_id: str) -> None:
        for _ in range(_PATIENCE):
            requests = (await self._execution()).requests
            found = [one for one in requests if one.prompt == prompt and one.kind == "approval"]
            if any(one.kind == "attention" for one in requests):
                raise Violation(f"{self.plan}: the run asks for attention: {requests}")
            if found:
                await (await self._execution()).approve(request_id=found[0].id, by="ann")
                return
            await asyncio.sleep(0.001)
        raise Violation(f"{self.plan}: nobody is asked {prompt!r}")

    def _judge(self, result: Any) -> None:
        results, seen = result
        order = list(self.plan.order)
        if self.plan.kind == "failures":
            expected, expected_seen = [order[0]], []
        else:
            expected, expected_seen = sorted(order), [] if self.plan.kind == "map" else order
        if results != expected or seen != expected_seen:
            raise Violation(f"{self.plan}: the result is {results}, the order seen {seen}")
        for passed in self.world.passes:
            if passed != expected_seen[: len(passed)]:
                raise Violation(f"{self.plan}: a pass saw the order {passed}")
        again = {told: times for told, times in self.world.notes.items() if times > 1}
        if again:
            raise Violation(f"{self.plan}: steps were done again after their results were committed: {again}")
        if wrong := problems(self.path):
            raise Violation(f"{self.plan}: {wrong[0]}")


_START = ManualClock().now()


def case(number: int, tally: Tally) -> None:
    """One plan from start to end."""
    plan = plan_of(number)
    with folder_in_memory() as folder, mock.patch.object(suspects, "_PROBATION_S", 0.0):
        driver = Driver(plan, folder / "runs.db")
        _world[:] = [driver.world]
        asyncio.run(driver.live())
    tally.count("orders")
    tally.count("completions", len(plan.order))
    tally.count("deaths", driver.deaths)
    tally.count("passes through the code", len(driver.world.passes))
    tally.mark(plan.kind)
    if any(driver.world.begun[branch] > 1 for branch in plan.order):
        tally.mark("a step that was under way at a death began again")


HARNESS = Harness(
    name="permutations",
    title="branches complete in every order, with deaths between",
    case=case,
    full=len(EXHAUSTIVE) + 600,
    small=35,
    quotas={**dict.fromkeys(KINDS, 100), "a step that was under way at a death began again": 100},
    small_marks=KINDS,
)

if __name__ == "__main__":
    main(HARNESS)
