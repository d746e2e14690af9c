"""One schedule: a world made by chance, what happens in it, and what has to be true afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from osprotocol.errors import EngineError, OSProtocolError
from tests.crash.checks import problems_in
from tests.lab.harness import Violation
from tests.lab.sim.account import Account
from tests.lab.sim.node import Node
from tests.lab.sim.people import Desk
from tests.lab.sim.program import PEOPLE, careful, fits, make, program, set_account, timed
from tests.lab.sim.watching import Watcher, early_timers, late_votes, wrong_counts
from tests.lab.sim.world import World

_CHAOS_US = 2_000_000
_CALM_US = 60_000_000
_CLOCK_STEP_US = 90_000_000_000
_MOST_CLOCK_STEPS = 3
_CHAOS_TURNS = 6_000
_CALM_TURNS = 20_000


def _answer(person: str, until: Callable[[], bool], desk: Desk) -> Any:
    return desk.answer(person, until)


class Story:
    """A world and its people.

    Args:
        seed: everything follows from it.
    """

    def __init__(self, seed: str) -> None:
        self.world = World(seed)
        self.account = Account(self.world)
        self.known: dict[str, str] = {}
        self.programs: dict[str, Any] = {}
        self._crashes = 0
        self._freezes = self.world.chance.choice((0, 0, 0.05, 0.2))
        self.account.on_effect = self._on_effect
        set_account(self.account)

    # ------------------------------------------------------------------ the plot

    def tell(self) -> None:
        """Let it happen.

        Raises:
            Violation: something that must never happen did.
        """
        world, chance = self.world, self.world.chance
        self._plan_faults()
        for _ in range(chance.choice((1, 1, 2, 2, 3))):
            self._new_worker()
        desks = [self._new_desk() for _ in range(chance.choice((1, 1, 1, 2)))]
        starts = [self._new_start(f"key {number}") for number in range(chance.choice((1, 1, 1, 2)))]
        for start in starts:
            for _ in range(chance.choice((1, 1, 2))):
                chance.choice(desks)(start)
        until = partial(self._is_late, world.now_us + _CHAOS_US // chance.choice((1, 2, 3)))
        for person in PEOPLE[: chance.choice((1, 2, 3, 4))]:
            chance.choice(desks)(partial(_answer, person, until))
        if chance.random() < 0.6:
            chance.choice(desks)(lambda desk: desk.steer(until))
        self._plan_trouble()
        world.run(lambda: until() or self._is_done(), turns=_CHAOS_TURNS, us=_CHAOS_US)
        self._calm_down()

    def _is_late(self, end_us: int) -> bool:
        return self.world.now_us >= end_us or self.world.is_calm

    def _is_done(self) -> bool:
        if self.world.turns % 16 or len(self.known) < len(self.programs):
            return False
        return not self.world.rows("SELECT 1 FROM runs WHERE ended_at IS NULL LIMIT 1")

    def _new_worker(self) -> Node:
        chance = self.world.chance
        node = self.world.new_node(
            worker=True,
            linger_ms=chance.choice((0, 0, 5, 100, 1_000)),
            concurrency=chance.choice((1, 2, 100)),
        )
        if chance.random() < 0.3:
            node.set_clock(chance.choice((-1, 1)) * chance.choice((1_000, 700_000, 3_600_000_000)))
        node.run(self._connected(node))
        return node

    async def _connected(self, node: Node) -> None:
        """Connect, and be started again by whoever looks after the process if that fails."""
        try:
            await node.connect()
        except EngineError:
            self.world.mark("a process could not connect")
            node.die()
            self._crashes -= 1
            self.world.after(50_000, lambda: self._restart(node))

    def _restart(self, node: Node) -> None:
        if not self.world.is_over and node.worker:
            self._new_worker()

    def _new_desk(self) -> Callable[[Callable[[Desk], Any]], None]:
        chance = self.world.chance
        # People act from a process that also works, or from one of their own.
        workers = [node for node in self.world.nodes if node.worker]
        node = chance.choice(workers) if chance.random() < 0.4 else self._new_office()
        desk = Desk(self.world, self.account, node, self.known)

        def act(doing: Callable[[Desk], Any]) -> None:
            async def when_connected() -> None:
                await node.connected.wait()
                await doing(desk)

            node.run(when_connected())

        return act

    def _new_office(self) -> Node:
        node = self.world.new_node(worker=False)
        node.run(node.connect())
        return node

    def _new_start(self, key: str) -> Callable[[Desk], Any]:
        chance = self.world.chance
        workflow = chance.choice((program, program, program, timed, careful))
        ops = self.programs[key] = make(chance)
        wait_ms = chance.choice((0, 0, 30, 400))
        return lambda desk: desk.start(workflow, ops, key, wait_ms)

    # ------------------------------------------------------------------ trouble

    def _plan_faults(self) -> None:
        world, chance = self.world, self.world.chance
        world.fault_rate = chance.choice((0, 0, 0, 0.01, 0.06))
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            world.faults[chance.randrange(4, 60)] = chance.choice(("die before", "die after"))
        world.on_commit = Watcher(world).committed

    def _plan_trouble(self) -> None:
        world, chance = self.world, self.world.chance
        troubles = (self._kill, self._stop, self._set_clock, self._evict, self._freeze_and_evict)
        for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
            world.after(
                int(chance.random() ** 3 * 1_200_000),
                chance.choice(troubles),
            )
        world.after(30_000, self._keep_alive)

    def _living(self) -> list[Node]:
        return [node for node in self.world.nodes if node.worker and not node.is_dead]

    def _kill(self) -> None:
        living = self._living()
        if living and not self.world.is_calm:
            node = self.world.chance.choice(living)
            if any(number == node.number for number, _ in self.account.open):
                self.world.mark("killed during an effect")
            node.die()
            self.world.mark("killed")

    def _stop(self) -> None:
        living = self._living()
        if living and not self.world.is_calm:
            self.world.chance.choice(living).stop(self.world.chance.choice((20_000, 600_000, 5_000_000)))
            self.world.mark("stopped for a while")

    def _set_clock(self) -> None:
        chance = self.world.chance
        if not self.world.is_calm:
            by_us = chance.choice((-1, 1)) * chance.choice((500, 300_000, 2_000_000, 3_600_000_000, 86_400_000_000))
            chance.choice(self.world.nodes).set_clock(by_us)
            self.world.mark("a clock was set back" if by_us < 0 else "a clock was set forward")

    def _freeze_and_evict(self) -> None:
        """A worker is stopped; somebody takes its runs away; it goes on as before."""
        living = self._living()
        if living:
            self._freeze(self.world.chance.choice(living))

    def _freeze(self, node: Node) -> None:
        if not node.is_dead and not self.world.is_calm:
            node.stop(self.world.chance.choice((100_000, 400_000, 1_500_000)))
            self.world.mark("stopped for a while")
            self.world.after(self.world.chance.choice((1_000, 50_000)), lambda: self._evict(node))

    def _on_effect(self, node: Node) -> None:
        """In the middle of an effect is the worst instant to be stopped at, if there is somebody to go on."""
        chance = self.world.chance
        if chance.random() < self._freezes and len(self._living()) > 1:
            self.world.after(int(chance.random() * 20_000), lambda: self._freeze(node))

    def _evict(self, node: Node | None = None) -> None:
        """An operator takes the runs of a worker away, which may be alive and at work."""
        living = [node for node in self._living() if node.engine is not None and node.engine.worker.key is not None]
        others = [node for node in self.world.nodes if not node.is_dead and node.client._opened is not None]
        if node is not None and self.world.chance.random() < 0.5:
            others = [one for one in others if one is not node] or others
        if self.world.is_calm or not living or not others:
            return
        chance = self.world.chance
        node, by = node or chance.choice(living), chance.choice(others)
        membership = node.engine._membership if node.engine is not None else None
        if membership is None or membership.worker_id is None:
            return
        worker_id = membership.worker_id
        node.was_evicted = True

        async def evict() -> None:
            try:
                await by.client.evict(worker_id)
                self.world.mark("evicted")
            except OSProtocolError:
                pass

        by.run(evict())

    def _keep_alive(self) -> None:
        """Whoever looks after the processes starts a new worker some time after one has died."""
        world = self.world
        if world.is_over:
            return
        dead = sum(node.is_dead for node in world.nodes if node.worker)
        while self._crashes < dead:
            self._crashes += 1
            world.after(world.chance.choice((0, 1_000, 200_000)), lambda: self._restart(world.nodes[0]))
        world.after(30_000, self._keep_alive)

    # ------------------------------------------------------------------ the end

    def _calm_down(self) -> None:
        world = self.world
        if world.problems:
            return
        world.is_calm = True
        for node in world.nodes:
            node.held_us = min(node.held_us, world.now_us)
        self._agree_on_the_time(max(node.furthest_us for node in world.nodes))
        if not self._living():
            self._new_worker()
        office = self._new_office()
        desk = Desk(world, self.account, office, self.known)

        async def mend() -> None:
            await office.connected.wait()
            await desk.bring_to_an_end()

        mending = office.run(mend())
        ended = world.run(mending.done, turns=_CALM_TURNS, us=_CALM_US)
        for _ in range(_MOST_CLOCK_STEPS):
            if not ended and not world.problems:
                # A pause that saw a clock being set lasted as long as the clock says, and moved what is due by it.
                self._agree_on_the_time(world.skew_us + _CLOCK_STEP_US)
                ended = world.run(mending.done, turns=_CALM_TURNS, us=_CALM_US)
        if world.problems:
            return
        if not ended:
            left = world.rows("SELECT id, status, due_at, ready_at, owner FROM runs WHERE ended_at IS NULL")
            world.wrong(f"runs do not come to an end with a live worker and people who answer: {left}")
        elif (error := mending.exception()) is not None:
            raise error
        else:
            # What is still on its way to those who wait.
            world.run(lambda: False, turns=80, us=60_000)

    def _agree_on_the_time(self, skew_us: int) -> None:
        """Somebody sets all clocks to the same, so late that nothing is due in an hour that only one saw."""
        for node in self.world.nodes:
            node.skew_us = skew_us
        self.world.skew_us = skew_us

    def check(self) -> None:
        """What has to be true when everything is over.

        Raises:
            Violation: it is not.
        """
        world = self.world
        wrong = [*world.problems]
        if not wrong:
            wrong += problems_in(world.reader) + late_votes(world) + early_timers(world) + wrong_counts(world)
            wrong += self.account.repeated()
            wrong += self._untrue()
        if wrong:
            raise Violation("; ".join(wrong[:5]))

    def _untrue(self) -> list[str]:
        """Things that somebody was told and that are not so."""
        wrong: list[str] = []
        world = self.world
        runs = {row[0]: row[1:] for row in world.rows("SELECT id, status, workflow, idempotency_key, key FROM runs")}
        by_key: dict[str, str] = {}
        votes: dict[str, dict[str, Any]] = {}
        for kind, what in self.account.told:
            about = what[0]
            if kind == "started":
                if about not in runs:
                    wrong.append(f"run {about} was started and is gone")
                if by_key.setdefault(what[1], about) != about:
                    wrong.append(f"{what[1]} gave two runs, {about} and {by_key[what[1]]}")
            elif kind == "ended":
                wrong += self._check_end(about, what[1], what[2], runs)
            elif kind == "cancel" and runs[about][0] != "cancelled":
                # One whose before_cancel nobody has come to judge says "cancelling" too, and may yet end otherwise.
                if what[1] == "cancelled" or runs[about][1] != "sim.careful":
                    wrong.append(f"run {about} was said to be {what[1]} and is {runs[about][0]}")
            elif kind in ("voted", "answered"):
                votes.setdefault(about, {})[what[1]] = what[2:]
        for request_id, told in votes.items():
            wrong += self._check_votes(request_id, told)
        return wrong

    def _check_end(self, run_id: str, status: str, value: Any, runs: dict[str, Any]) -> list[str]:
        if runs.get(run_id, ("gone",))[0] != status:
            return [f"run {run_id} was told to be {status} and is {runs.get(run_id)}"]
        if status != "completed":
            return []
        ((stored,),) = self.world.rows(
            "SELECT value FROM journal WHERE run = ? AND type = 'run.completed'", runs[run_id][3]
        )
        if json.loads(stored) != value:
            return [f"run {run_id} gave {value!r}, its journal says {stored}"]
        key = next(key for key, known in self.known.items() if known == run_id)
        if not fits(self.programs[key], value):
            return [f"run {run_id} gave {value!r}, which {self.programs[key]!r} cannot give"]
        return []

    def _check_votes(self, request_id: str, told: dict[str, Any]) -> list[str]:
        wrong = []
        found = self.world.rows("SELECT status, responses, answer FROM requests WHERE id = ?", request_id)
        if not found:
            return [f"request {request_id} was answered and is gone"]
        ((status, responses, answer),) = found
        counted = {one["by"].casefold(): one for one in json.loads(responses)}
        for person, (said, after) in told.items():
            if isinstance(said, bool):
                if person not in counted or counted[person]["approved"] != said:
                    wrong.append(f"the vote of {person} on {request_id} was accepted and is not counted: {responses}")
                if after != "open" and status != after:
                    wrong.append(f"{person} was told that {request_id} is {after}; it is {status}")
        answers = {said for said, _ in told.values() if not isinstance(said, bool)}
        if answers and (status != "answered" or json.loads(answer) not in answers or len(answers) > 1):
            wrong.append(f"{request_id} was answered with {answers}, it is {status} with {answer}")
        return wrong

    def end(self) -> None:
        """Let go of the world."""
        self.world.end()
