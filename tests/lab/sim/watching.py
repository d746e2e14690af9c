"""What is looked at while a simulated world goes on, and what its tables have to say at the end."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from osprotocol._embedded.store import Group
from tests.crash.checks import problems_in

if TYPE_CHECKING:
    from tests.lab.sim.node import Node
    from tests.lab.sim.world import World

# Events that only the worker that owns the run may add.
_OWNERS = {
    "step.started",
    "step.completed",
    "step.failed",
    "step.retrying",
    "sleep.started",
    "sleep.completed",
    "request.completed",
    "run.progress",
    "run.completed",
}
_EARLY_SLEEPS = """
SELECT r.id, j.position FROM journal j JOIN runs r ON r.key = j.run
JOIN journal begun ON begun.run = j.run AND begun.position = j.position AND begun.type = 'sleep.started'
WHERE j.type = 'sleep.completed' AND j.at < json_extract(begun.value, '$.until')
"""
_LOOK_EVERY = 40


class Watcher:
    """Sees every commit of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owners: dict[int, int | None] = {}
        self._epochs: dict[int, int] = {}

    def committed(self, node: Node, group: Group) -> None:
        """Only the owner of a run writes its journal, ownership changes with the epoch, and no run is in limbo."""
        world = self._world
        worker = None if node.engine is None else node.engine.worker.key
        for key, change in group.changes.items():
            types = {event.type for event in change.events}
            owner, epoch = self._owners.get(key), self._epochs.get(key, 0)
            claimed = "run.claimed" in types
            if not claimed and types & _OWNERS and owner != worker:
                world.wrong(f"{node} (worker {worker}) added {types & _OWNERS} to run {key}, which {owner} owns")
            if change.state.epoch < epoch or (claimed and change.state.epoch == epoch):
                world.wrong(f"run {key} was claimed with epoch {change.state.epoch} after {epoch}")
            self._owners[key], self._epochs[key] = change.state.owner, change.state.epoch
        if world.commits % _LOOK_EVERY == 0:
            self.look()

    def look(self) -> None:
        """The file as it is now."""
        for problem in problems_in(self._world.reader):
            self._world.wrong(problem)


def late_votes(world: World) -> list[str]:
    """Votes that count although they came at or after the deadline, and deadlines that came early."""
    wrong = []
    sql = "SELECT id, status, responses, expires_at, closed_at FROM requests WHERE expires_at IS NOT NULL"
    for name, status, responses, expires_at, closed_at in world.rows(sql):
        for response in json.loads(responses):
            at = int(datetime.fromisoformat(response["at"]).timestamp() * 1_000) * 1_000
            if at >= expires_at:
                wrong.append(f"{name}: the answer of {response['by']} counts although it came after the deadline")
        if status == "expired" and closed_at < expires_at:
            wrong.append(f"{name} expired {expires_at - closed_at} us before its deadline")
    return wrong


def early_timers(world: World) -> list[str]:
    """Sleeps that ended before their time; unless a clock was set back between the timer and its record."""
    if world.reached["a clock was set back"]:
        return []
    return [f"the sleep {position} of run {name} ended early" for name, position in world.rows(_EARLY_SLEEPS)]
