"""Those who call: each has a list of things to do, does them at a process, and keeps what it was told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from osprotocol import ApprovalConfig, Context, RunOptions, step, workflow
from osprotocol.errors import (
    EngineError,
    IdempotencyConflictError,
    InputExpiredError,
    InvalidAnswerError,
    InvalidTransitionError,
    NotAnApproverError,
    RequestClosedError,
    RequestNotFoundError,
    RunCancelledError,
    VoteConflictError,
)
from tests.lab.linearizable import Call
from tests.lab.specifications import Rules

if TYPE_CHECKING:
    from tests.lab.histories import History

SPELLINGS = {
    "ann": ("ann", "Ann", " ANN", "ａnn"),  # noqa: RUF001 - a wide letter is a spelling
    "bob": ("bob", "Bob"),
    "cleo": ("cleo", "CLEO "),
    "straße": ("straße", "STRASSE"),
}
_PERSON = {spelling: person for person, spellings in SPELLINGS.items() for spelling in spellings}
_FINAL = ("completed", "failed", "cancelled")
_TRIES = 4


def person_of(name: str) -> str:
    """Whose name that is."""
    return _PERSON.get(name, name)


def named(value: Any) -> Any:
    """A result as the specification writes it."""
    return tuple(value) if isinstance(value, list) else value


# ------------------------------------------------------------------------------------------------------ the object


@step(name="history.work")
async def work(ms: int) -> None:
    """Takes a while."""
    await asyncio.sleep(ms / 1_000)


@workflow(name="history.run")
async def history_run(ctx: Context, told: list[Any]) -> Any:
    """Asks what it was told to ask, and gives what came of it."""
    *asked, before_ms, after_ms, cleanup_ms, stubborn = told
    try:
        if before_ms:
            await ctx.step(work, before_ms)
        value = await _ask(ctx, *asked)
        if after_ms:
            await ctx.step(work, after_ms)
    except asyncio.CancelledError:
        if cleanup_ms:
            await ctx.step(work, cleanup_ms)
        if stubborn:
            return "it went on"
        raise
    return value


async def _ask(
    ctx: Context, kind: str, approvers: list[str], required: int, threshold: int, auto: bool, timeout_ms: int | None
) -> Any:
    if kind == "approval":
        config = ApprovalConfig(timeout_ms, auto, approvers, required, threshold)
        approval = await ctx.wait_for_approval("May it?", config)
        return [approval.outcome, approval.approved]
    if kind == "input":
        try:
            return await ctx.wait_for_input("How many?", int, timeout_ms=timeout_ms)
        except InputExpiredError:
            return "expired"
    return "done"


def make_rules(kind: str, chance: random.Random) -> tuple[Rules, list[Any]]:
    """What a run asks, and the input that makes it ask so."""
    timeout_ms = chance.choice((None, 5, 30, 80)) if kind else None
    rules = Rules(kind)
    if kind == "approval":
        required, people = chance.choice((1, 1, 2, 2, 3)), tuple(SPELLINGS)
        approvers = people[: min(len(people), required + chance.randrange(2))] if chance.random() < 0.5 else ()
        rules = Rules(kind, approvers, required, chance.choice((1, 1, 2)), chance.random() < 0.3)
    before_ms, after_ms, cleanup_ms = (chance.choice((0, 0, 1, 20)) for _ in range(3))
    if not kind:
        before_ms = chance.choice((5, 20, 60, 100))
    names = [chance.choice(SPELLINGS[person]) for person in rules.approvers]
    how = (timeout_ms, before_ms, after_ms, cleanup_ms, chance.random() < 0.3)
    return rules, [kind, names, rules.required, rules.threshold, rules.auto, *how]


def make_act(kind: str, person: str, chance: random.Random) -> tuple[Any, ...]:
    """Something to do to such a run."""
    is_named = chance.random() < 0.7
    pick = chance.random()
    if kind == "start":
        return "start", chance.choice(("key", "key", "key", "other key")), chance.choice((1, 1, 1, 2))
    if pick < 0.7 and kind == "approval":
        return "vote", person, chance.random() < 0.7, is_named
    if pick < 0.7 and kind == "input":
        return "answer", person, chance.choice((chance.randrange(1_000),) * 5 + ("many",)), is_named
    if pick < 0.88:
        return "cancel", chance.choice((None, None, True, False))
    return (chance.choice(("pause", "resume", "look")),)


def hear(call: Call, reply: Any, place: float) -> list[Call]:
    """The caller is told what came of it; gives what else that tells."""
    call.returned, call.reply = place, reply
    if call.act[0] != "cancel" or call.act[1] is False or reply != "cancelled":
        return []
    # Two facts: the cancel counts, and when the caller is told, the run has ended by it.
    call.reply = "counts"
    return [Call(call.client, call.process, ("result",), call.called, place, ("cancelled",))]


@workflow(name="history.started")
async def history_started(ctx: Context, number: int) -> int:
    """Is started."""
    return number


# ----------------------------------------------------------------------------------------------------- the answers


async def reply_of(doing: Awaitable[Any]) -> Any:
    """What a call comes to, in the words of the specification.

    Raises:
        EngineError: nothing that can be relied on.
    """
    try:
        return await doing
    except RequestClosedError as error:
        return "closed", error.outcome, None if error.closed_by is None else person_of(error.closed_by)
    except InvalidTransitionError as error:
        return ("ended", error.status) if error.status in _FINAL else ("refused",)
    except VoteConflictError:
        return ("conflict",)
    except NotAnApproverError:
        return ("not an approver",)
    except RequestNotFoundError:
        return ("not found",)
    except InvalidAnswerError:
        return ("invalid",)
    except IdempotencyConflictError as error:
        return "conflict", error.run_id


async def perform(client: Any, run_id: str, request_id: str | None, act: tuple[Any, ...], spelling: str) -> Any:
    """Do one act with the public classes, and say what they said."""
    if act[0] == "start":
        run = client.create_run(history_started, act[2], RunOptions(idempotency_key=act[1]))
        return "started", (await run.start()).id
    execution = await client.get(run_id)
    asked = request_id if act[-1] is True else None
    match act:
        case ("vote", _, yes, _):
            voting = execution.approve if yes else execution.reject
            return "ok", (await voting(request_id=asked, by=spelling)).status
        case ("answer", _, value, _):
            return "ok", (await execution.respond(value, request_id=asked, by=spelling)).status
        case ("cancel", graceful):
            return await execution.cancel("enough", by=spelling, graceful=graceful)
        case ("pause",):
            await execution.pause(by=spelling)
            return ("ok",)
        case ("resume",):
            await execution.resume(by=spelling)
            return ("ok",)
        case ("look",):
            snapshot = execution.snapshot
            pauses = [one for one in snapshot.waiting_on if one.kind == "paused"]
            return snapshot.status.value, snapshot.cancelling, bool(pauses), any(one.settled for one in pauses)
        case _:
            assert act == ("result",)
            try:
                return "completed", named(await execution.result)
            except RunCancelledError:
                return ("cancelled",)


# ------------------------------------------------------------------------------------------------------ the callers


class Caller:
    """Somebody with a list of things to do, at one process; when that dies, at its successor.

    Attributes:
        seat: the number of the process.
        is_done: there is nothing left to do.
    """

    def __init__(self, history: History, name: str, seat: int) -> None:
        self.history = history
        self.name = name
        self.seat = seat
        self.is_done = False
        self._left = self._make_list()

    def _make_list(self) -> list[tuple[tuple[Any, ...], str]]:
        """Acts, and when: at once, soon, when all meet, or at the deadline."""
        chance, kind = self.history.room.chance, self.history.kind
        person = chance.choice(tuple(SPELLINGS))
        acts = []
        for _ in range(chance.choice((1, 1, 2, 2, 3))):
            when = chance.choice(("at once", "soon", "meeting", "meeting", "deadline", "deadline"))
            acts.append((make_act(kind, person, chance), when))
        if kind != "start" and chance.random() < 0.1:
            acts.append((("result",), "at once"))
        if kind in ("approval", "input") and chance.random() < 0.15:
            # An answer in a pause that has been seen to hold.
            given = ("vote", person, True, True) if kind == "approval" else ("answer", person, 7, True)
            acts = [(("pause",), acts[0][1]), (("look",), "at once"), (given, "at once"), *acts]
        return acts

    def sit_down(self, again: bool = False) -> None:
        """Go on with the list at the process that has the seat now."""
        node = self.history.seats[self.seat]
        if not self.is_done:
            node.run(self._work())

    async def _work(self) -> None:
        history = self.history
        node = history.seats[self.seat]
        await node.connected.wait()
        while self._left:
            act, when = self._left[0]
            await self._wait(when)
            if act[0] == "result" and not self._will_end():
                break
            if act[0] in ("vote", "answer") and act[-1] is True and history.request_id is None:
                history.look_for_request()
                if history.request_id is None:
                    act = (*act[:-1], False)
            await self._do(act)
            self._left.pop(0)
        self.is_done = True

    def _will_end(self) -> bool:
        """Whether it makes sense to wait for the end."""
        return bool(self.history.room.rows("SELECT 1 FROM runs WHERE ended_at IS NOT NULL OR cancel != 'none'"))

    async def _wait(self, when: str) -> None:
        history, chance = self.history, self.history.room.chance
        room, node = history.room, history.seats[self.seat]
        if when == "at once":
            return
        wait_us = chance.randrange(20_000)
        if when == "deadline" and history.deadline_us is not None:
            wait_us = history.deadline_us - node.wall_us + chance.choice((-300, -1, 0, 0, 0, 0, 1, 300))
        elif when != "soon":
            wait_us = history.meeting_us - room.now_us
        if 0 < wait_us < 500_000:
            await asyncio.sleep(wait_us / 1_000_000)

    async def _do(self, act: tuple[Any, ...]) -> None:
        """Do it, and again while there is trouble."""
        chance, room = self.history.room.chance, self.history.room
        node = self.history.seats[self.seat]
        spelling = chance.choice(SPELLINGS[act[1]]) if act[0] in ("vote", "answer") else "eve"
        for _ in range(_TRIES):
            call = room.ask(self.name, node, act)
            patience_s = chance.choice((0.0, 0.000_02, 0.002)) if chance.random() < 0.04 else None
            doing: Callable[[], Awaitable[Any]] = lambda: reply_of(  # noqa: E731
                perform(node.client, self.history.run_id, self.history.request_id, act, spelling)
            )
            try:
                async with asyncio.timeout(patience_s):
                    room.hear(call, await doing())
                return
            except TimeoutError:
                room.lose(call)
                room.mark("a caller gave up in the middle")
                return
            except EngineError:
                room.lose(call)
                room.mark("a caller was told of trouble")
                await asyncio.sleep(chance.choice((0.0, 0.001, 0.01)))
