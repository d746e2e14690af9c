"""What is looked at while a simulated world goes on, and what its tables have to say at the end."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from osprotocol._embedded.store import Group, Operation
from osprotocol._embedded.transaction import Change
from osprotocol.errors import FencedError
from tests.crash.checks import problems_in
from tests.lab.sim.account import NOTICED_US

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
# Events by which code goes on, which no run does in a pause that is settled.
# (What came for it in the pause may be recorded, and is handed out later; so may what was running.)
_MOVES = _OWNERS - {"run.progress", "step.completed", "step.failed", "step.retrying", "request.completed"}
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
        self._settled: dict[int, int] = {}

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
            self._check_pause(node, key, change, types)
            self._owners[key], self._epochs[key] = change.state.owner, change.state.epoch
        if any(_is_fenced(operation) for operation in group.operations):
            world.mark("a record of an old epoch was refused")
        if world.commits % _LOOK_EVERY == 0:
            self.look()

    def _check_pause(self, node: Node, key: int, change: Change, types: set[str]) -> None:
        """Nothing goes on in a pause that is settled, once its worker has heard of it."""
        world, since = self._world, self._settled.pop(key, None)
        if change.state.pause_settled_at is None:
            return
        self._settled[key] = world.now_us if since is None else since
        heard_us = max(self._settled[key], node.stopped_us) + NOTICED_US
        if since is not None and world.now_us > heard_us and types & _MOVES:
            world.wrong(f"run {key} went on in its pause: {types & _MOVES}")

    def look(self) -> None:
        """The file as it is now."""
        for problem in problems_in(self._world.reader):
            self._world.wrong(problem)


def _is_fenced(operation: Operation) -> bool:
    told = operation.error if operation.error is not None else getattr(operation.result, "error", None)
    return isinstance(told, FencedError)


def wrong_counts(world: World) -> list[str]:
    """Approvals whose outcome is not what their votes say."""
    wrong = []
    sql = "SELECT id, status, responses, required, threshold, approvers FROM requests WHERE kind = 'approval'"
    for name, status, told, required, threshold, named in world.rows(sql):
        responses, approvers = json.loads(told), {one.casefold() for one in json.loads(named)}
        people = [one["by"].casefold() for one in responses]
        yes = sum(one["approved"] for one in responses)
        no = len(responses) - yes
        is_lost = no >= threshold or (approvers and len(approvers) - no < required)
        should = "approved" if yes >= required else "rejected" if is_lost else None
        if len(people) != len(set(people)) or (approvers and not set(people) <= approvers):
            wrong.append(f"{name} counts {people}, of {approvers or 'anybody'}")
        if (status in ("approved", "rejected")) != (should is not None) or (should is not None and status != should):
            wrong.append(f"{name} is {status} with {yes} for and {no} against; {required} for or {threshold} against")
    return wrong


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
