"""Histories (T8): callers at several processes aim at one object, and what they were told is put in order.

What each caller asked, when, and what it was told is kept outside the processes. Whatever those did, there has to be
an order of single calls that explains all answers, and the tables have to hold what that order leads to.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from osprotocol.errors import EngineError
from tests.lab.callers import Caller, history_run, make_rules
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.judging import judge
from tests.lab.linearizable import Call, Explanation
from tests.lab.recording import Room
from tests.lab.sim.node import Node
from tests.lab.specifications import Rules

_TROUBLE_US = 2_000_000
_SETTLE_US = 30_000_000
_TURNS = 4_000
_DEATHS = 2
"""After three deaths in a row the engine asks whether the run is poison, which is another object."""

REGRESSIONS = (1, 60, 88)
"""Cases that find a bug of once: who was said to have closed what had expired (1), the outcome that was not told of
what was decided in the same commit (60), a paused run that went on with an answer (88)."""

_STATUS = "SELECT status, cancel, pause_at FROM runs WHERE id = ?"


class History:
    """One history: a room, an object and its callers."""

    def __init__(self, number: int) -> None:
        self.room = Room(f"histories {number}")
        chance = self.room.chance
        self.kind = chance.choice(("approval",) * 9 + ("input",) * 4 + ("",) * 3 + ("start",) * 4)
        self.seats: list[Node] = []
        self.callers: list[Caller] = []
        self.run_id = ""
        self.request_id: str | None = None
        self.deadline_us: int | None = None
        self.meeting_us = 0
        self.rules = Rules(self.kind)
        self.told: list[Any] = []
        self._restarts: Counter[int] = Counter()

    # ------------------------------------------------------------------ the plot

    def happen(self) -> None:
        """Let it happen.

        Raises:
            Violation: the world is not as it must be.
        """
        room, chance = self.room, self.room.chance
        for number in range(chance.choice((1, 2, 2, 3))):
            self._new_process(worker=number == 0 or chance.random() < 0.4)
        self._opened()
        if self.kind != "start":
            self._begin()
        self.meeting_us = room.now_us + chance.choice((0, 500, 20_000, 60_000))
        for number in range(chance.choice((2, 2, 3, 4, 5))):
            caller = Caller(self, f"caller {number}", chance.randrange(len(self.seats)))
            self.callers.append(caller)
            caller.sit_down()
        self._plan_trouble()
        room.run(self._is_told, turns=_TURNS, us=_TROUBLE_US)
        self._calm_down()

    def _new_process(self, *, worker: bool) -> Node:
        chance = self.room.chance
        node = self.room.new_node(worker=worker, linger_ms=chance.choice((0, 0, 5, 100)))
        if chance.random() < 0.25:
            node.set_clock(chance.choice((-1, 1)) * chance.choice((1, 1_000, 50_000, 3_600_000_000)))
        self.seats.append(node)
        node.run(self._connect(node))
        return node

    async def _connect(self, node: Node) -> None:
        """Whoever looks after the processes starts one again that could not connect."""
        try:
            await node.connect()
        except EngineError:
            self.room.mark("a process could not connect")
            node.die()

    def _opened(self) -> None:
        room = self.room
        if not room.run(lambda: all(node.connected.is_set() for node in self.seats), turns=500, us=5_000_000):
            room.wrong("the processes did not connect")

    def _begin(self) -> None:
        """Start the run; mostly wait until it asks."""
        room, chance = self.room, self.room.chance
        self.rules, self.told = make_rules(self.kind, chance)
        starting = self.seats[0].run(self._start())
        waits = self.kind and chance.random() < 0.75
        room.run(lambda: self._has_begun(starting, bool(waits)), turns=1_000, us=5_000_000)
        self.look_for_request()

    async def _start(self) -> None:
        execution = await self.seats[0].client.create_run(history_run, self.told).start()
        self.run_id = execution.id

    def _has_begun(self, starting: asyncio.Task[None], waits: bool) -> bool:
        if not starting.done() or not waits:
            return starting.done()
        return bool(self.room.rows("SELECT 1 FROM requests"))

    def look_for_request(self) -> None:
        """Somebody looks into the inbox."""
        found = self.room.rows("SELECT id, expires_at FROM requests")
        if found:
            self.request_id, self.deadline_us = found[0]

    # ------------------------------------------------------------------ trouble

    def _plan_trouble(self) -> None:
        room, chance = self.room, self.room.chance
        room.fault_rate = chance.choice((0, 0, 0.05, 0.2))
        deaths = chance.choice((0, 0, 0, 1, 1, _DEATHS))
        for _ in range(deaths):
            kind = chance.choice(("die before", "die after", "kill"))
            if kind == "kill":
                room.at(self.meeting_us + chance.choice((-100, 0, 0, 50, 3_000, 30_000)), self._kill)
            else:
                room.faults[room.commits + 1 + chance.randrange(8)] = kind
        if chance.random() < 0.08:
            room.after(chance.randrange(60_000), self._set_clock)
        if chance.random() < 0.08:
            room.after(chance.randrange(60_000), self._stop)
        room.after(5_000, self._look_after)

    def _kill(self) -> None:
        living = [node for node in self.seats if not node.is_dead]
        if living and not self.room.is_calm and self.room.deaths < _DEATHS:
            self.room.chance.choice(living).die()

    def _set_clock(self) -> None:
        chance = self.room.chance
        if not self.room.is_calm:
            chance.choice(self.seats).set_clock(chance.choice((-1, 1)) * chance.choice((500, 20_000, 3_600_000_000)))

    def _stop(self) -> None:
        if not self.room.is_calm:
            self.room.chance.choice(self.seats).stop(self.room.chance.choice((20_000, 200_000)))

    def _look_after(self) -> None:
        """Processes that died are started again, and their callers sit down there."""
        room = self.room
        if room.is_over:
            return
        for seat, node in enumerate(self.seats):
            if node.is_dead:
                fresh = room.new_node(worker=node.worker)
                self._restarts[seat] += 1
                self.seats[seat] = fresh
                fresh.run(self._connect(fresh))
                for caller in self.callers:
                    if caller.seat == seat:
                        caller.sit_down(again=True)
        room.after(room.chance.choice((1_000, 5_000, 20_000)), self._look_after)

    def _is_told(self) -> bool:
        return all(caller.is_done for caller in self.callers)

    # ------------------------------------------------------------------ the end

    def _calm_down(self) -> None:
        room = self.room
        room.is_calm = True
        for node in room.nodes:
            node.held_us = min(node.held_us, room.now_us)
        if not room.run(self._is_settled, turns=20_000, us=_SETTLE_US) and not room.problems:
            rows = room.rows("SELECT id, status, wake, ready_at, due_at, owner, pause_at FROM runs")
            waiting = [caller.name for caller in self.callers if not caller.is_done]
            room.wrong(f"nothing moves although nothing is in the way: {rows}, still waiting: {waiting}")

    def _is_settled(self) -> bool:
        if self.room.turns % 4 or not self._is_told() or any(node.is_dead for node in self.seats):
            return False
        if self.kind == "start":
            return True
        ((status, cancel, pause_at),) = self.room.rows(_STATUS, self.run_id)
        if status in ("completed", "cancelled") or (pause_at is not None and cancel == "none"):
            return True
        return bool(self.room.rows("SELECT 1 FROM requests WHERE status = 'open'"))

    # ----------------------------------------------------------------- the judgement

    def judge(self) -> Explanation[Any]:
        """Find the order.

        Raises:
            Violation: there is none.
        """
        room = self.room
        if room.problems:
            raise Violation("; ".join(room.problems[:5]))
        calls, end = list(room.calls), room.next_place()
        if self.kind != "start":
            self.look_for_request()
        if self.deadline_us is not None:
            calls += room.clock_calls(self.deadline_us)
        return judge(self.rules, calls, end + 0.5, room.reader, self.run_id)


# -------------------------------------------------------------------------------------------------- what was reached


def _overlap(one: Call, other: Call) -> bool:
    first, second = sorted((one, other), key=lambda call: call.called)
    return first.returned is None or first.returned >= second.called or first.called_us == second.called_us


def _pairs(calls: list[Call], one: Callable[[Call], bool], other: Callable[[Call], bool]) -> list[tuple[Call, Call]]:
    return [(a, b) for a in calls if one(a) for b in calls if b is not a and other(b)]


def _reached(history: History, explanation: Explanation[Any], tally: Tally) -> None:
    room, calls = history.room, history.room.calls
    happened = {id(call) for call in explanation.happened}
    votes = [call for call in calls if call.act[0] == "vote"]
    answers = [call for call in calls if call.act[0] == "answer"]
    cancels = [call for call in calls if call.act[0] == "cancel"]
    if history.deadline_us is not None:
        for call in votes + answers:
            skew = [skew for place, process, skew in room.clocks if process == call.process and place < call.called][-1]
            if call.called_us + skew == history.deadline_us:
                tally.mark("vote and expiry in the same instant")
    for yes, no in _pairs(votes, lambda call: call.act[2], lambda call: not call.act[2]):
        if yes.called_us == no.called_us:
            tally.mark("approve and reject in the same instant")
    if any(_overlap(vote, cancel) for vote in votes + answers for cancel in cancels):
        tally.mark("vote and cancel raced")
    ended = room.rows("SELECT at FROM journal WHERE type = 'run.completed' LIMIT 1") if cancels else []
    for cancel in cancels if ended else []:
        if cancel.called_us - 1_000 <= ended[0][0] <= (cancel.returned_us or room.now_us) + 1_000:
            tally.mark("cancel and completion raced")
    for call in calls:
        if not call.is_heard and call.act[0] not in ("look", "result"):
            tally.mark("unheard, and it had happened" if id(call) in happened else "unheard, and it had not happened")
    if any(
        a.act[1] == b.act[1] and a.client != b.client and _overlap(a, b) for a, b in _pairs(calls, _starts, _starts)
    ):
        tally.mark("starts with one key raced")
    if any(a.client != b.client and _overlap(a, b) for a, b in _pairs(answers, bool, bool)):
        tally.mark("two answers to one input")
    state = explanation.state
    settled = [call.returned for call in calls if call.act == ("look",) and call.is_heard and call.reply[3]]
    if any(min(settled, default=call.called) < call.called and call.reply[0] == "ok" for call in votes + answers):  # type: ignore[type-var,operator]
        tally.mark("an answer in a settled pause")
    if history.kind == "approval" and state.outcome == "approved" and len(state.votes) > 1:
        tally.mark("a quorum of several")
    if any(call.process >= len(history.seats) and call.is_heard and call.reply[0] == "ok" for call in votes):
        tally.mark("a vote after a restart")
    for call in calls:
        if call.is_heard:
            word = call.reply if isinstance(call.reply, str) else " ".join(map(str, call.reply[:2]))
            if call.act[0] in ("vote", "answer", "cancel", "pause", "resume"):
                tally.count(f"{call.act[0]}: {word}")


def _starts(call: Call) -> bool:
    return bool(call.act[0] == "start")


def _trust(path: Path) -> None:
    """The file system is checked elsewhere, and the check reads a long list."""


def case(number: int, tally: Tally) -> None:
    """One history."""
    history = History(number)
    patch = mock.patch(
        "osprotocol._embedded.store.check_filesystem", _trust
    )  # it reads a long list, and says nothing here
    patch.start()
    gc.disable()  # when an object goes is not to depend on what else this process did
    try:
        history.happen()
        _reached(history, history.judge(), tally)
    finally:
        gc.enable()
        patch.stop()
        room = history.room
        tally.count("histories")
        tally.count("calls", len(room.calls))
        tally.count("heard", sum(call.is_heard for call in room.calls))
        tally.count("turns", room.turns)
        tally.count("deaths", room.deaths)
        tally.marks.update(room.reached)
        room.end()


HARNESS = Harness(
    name="histories",
    title="Histories of concurrent calls, put in order",
    case=case,
    full=20_000,
    share=5_000,
    small=100,
    quotas={
        "vote and expiry in the same instant": 1_000,
        "approve and reject in the same instant": 1_500,
        "vote and cancel raced": 2_000,
        "cancel and completion raced": 150,
        "unheard, and it had happened": 300,
        "unheard, and it had not happened": 3_000,
        "a commit of unknown outcome had happened": 600,
        "starts with one key raced": 1_000,
        "two answers to one input": 800,
        "a quorum of several": 150,
        "a vote after a restart": 300,
        "an answer in a settled pause": 100,
        "a caller gave up in the middle": 800,
    },
    small_marks=(
        "vote and expiry in the same instant",
        "approve and reject in the same instant",
        "vote and cancel raced",
        "unheard, and it had happened",
        "starts with one key raced",
        "two answers to one input",
    ),
)

if __name__ == "__main__":
    main(HARNESS)
