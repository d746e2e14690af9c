"""What really happened in a simulated world: effects, and what callers were told. The engine does not write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.sim.node import Node
    from tests.lab.sim.world import World

# A retry of the run forgets the step that failed: that one may begin again.
_COMMITTED = """
SELECT 1 FROM journal j JOIN runs r ON r.key = j.run
WHERE r.id = ? AND j.position = ? AND j.type IN ('step.completed', 'step.failed')
AND NOT EXISTS (
    SELECT 1 FROM journal later, json_each(later.value, '$.forgotten') forgotten WHERE later.run = j.run
    AND later.number > j.number AND later.type = 'run.retrying' AND forgotten.value = j.position)
"""
_RECORDED = """
SELECT 1 FROM journal j JOIN runs r ON r.key = j.run WHERE r.id = ? AND j.position = ? AND j.type LIKE 'step.%'
"""
_ASKED = """
SELECT count(*) FROM requests q JOIN runs r ON r.key = q.run
WHERE r.id = ? AND q.position = ? AND q.kind = 'attention' AND q.answer LIKE '%retry%'
"""
_STATE = "SELECT status, pause_at, cancel, epoch, owner, executing FROM runs WHERE id = ?"
NOTICED_US = 100_000
"""A process hears of what another committed within 50 ms; a slow thread may add to it."""


class Account:
    """The world's own account of effects and answers.

    Attributes:
        told: what callers were told, in order: a kind and what it was about.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.effects: Counter[str] = Counter()
        self.open: dict[tuple[int, str], int] = {}
        self.once: set[str] = set()
        self._returned: dict[tuple[int, str, int], list[str]] = {}
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        self.held: dict[str, int] = {}
        self.on_effect: Callable[[Node], None] = lambda node: None

    def tell(self, kind: str, *what: Any) -> None:
        """A caller was told something."""
        self.told.append((kind, what))

    def begins(self, key: str, label: str, attempt: int, *, epoch: int | None = None, once: bool = False) -> None:
        """An effect begins, in the process whose turn it is.

        Args:
            key: of the step in its run.
            label: what is done.
            attempt: number of the step's try.
            epoch: of the run's claim, if all that this claim did before has to be committed by now.
            once: it must not be done again unless a person says so.
        """
        world, node = self.world, self.world.turning
        if world.is_over or node is None or node.is_dead:
            return
        run_id, _, position = key.rpartition(":")
        self.effects[key] += 1
        if once:
            self.once.add(key)
        if self.effects[key] > attempt:
            world.mark("an effect was had again")
        if (other := [number for number, effect in self.open if effect == key and number != node.number]) and any(
            not world.nodes[number].is_dead for number in other
        ):
            world.mark("an effect overlapped with its successor")
        self.open[(node.number, key)] = world.now_us
        self.on_effect(node)
        if epoch is not None:
            for earlier in self._returned.get((node.number, run_id, epoch), ()):
                if not world.rows(_RECORDED, run_id, earlier):
                    world.wrong(f"effect {label} ({key}) began before the result of step {earlier} was committed")
        if node.was_evicted:
            return  # it has lost its runs and may not know it yet: what it does is refused, not prevented
        if world.rows(_COMMITTED, run_id, position):
            world.wrong(f"effect {label} ({key}) began although its result was committed")
        ((status, pause_at, cancel, *_),) = world.rows(_STATE, run_id)
        if status in ("completed", "failed", "cancelled"):
            since = self.held.setdefault(f"final {run_id}", world.now_us)
            if world.now_us - since > NOTICED_US and world.now_us - node.stopped_us > NOTICED_US:
                world.wrong(f"effect {label} ({key}) began {world.now_us - since} us after the run was {status}")
        paused_since = self.held.get(run_id)
        if pause_at is not None and cancel == "none" and paused_since is not None:
            late_us = world.now_us - paused_since
            if late_us > NOTICED_US and world.now_us - node.stopped_us > NOTICED_US:
                world.wrong(f"effect {label} ({key}) began {late_us} us after the run's pause was acknowledged")
            else:
                world.mark("an effect began while a pause was on its way")

    def ends(self, key: str, node: Node | None, *, epoch: int | None = None) -> None:
        """An effect is had; with an epoch, its step returns."""
        if node is not None:
            self.open.pop((node.number, key), None)
            run_id, _, position = key.rpartition(":")
            if epoch is not None and not node.was_evicted:
                self._returned.setdefault((node.number, run_id, epoch), []).append(position)

    def repeated(self) -> list[str]:
        """Steps that must not be done twice and were, without a person who said so."""
        wrong = []
        for key in self.once:
            run_id, _, position = key.rpartition(":")
            ((allowed,),) = self.world.rows(_ASKED, run_id, position)
            if self.effects[key] > 1 + allowed:
                wrong.append(f"the at-most-once step {key} was begun {self.effects[key]} times, {allowed} by a person")
        return wrong
