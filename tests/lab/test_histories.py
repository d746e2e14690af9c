"""The checker knows good histories from bad ones; the small share of the histories."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from osprotocol import ApprovalConfig, Context, connect, workflow
from osprotocol.errors import RequestClosedError
from tests.lab import histories, real_histories
from tests.lab.harness import Tally, check_small
from tests.lab.linearizable import UNHEARD, Call, NotLinearizable, explain
from tests.lab.specifications import Rules, RunFacts, RunSpecification, StartSpecification

# ------------------------------------------------------------------------------------------------- known histories

_ASKING = RunFacts("asking", "open")
_ONE = RunSpecification(Rules("approval"), _ASKING)
_TWO = RunSpecification(Rules("approval", (), 2, 2), _ASKING)
_TWO_OF_TWO = RunSpecification(Rules("approval", ("ann", "bob"), 2, 2), _ASKING)
_INPUT = RunSpecification(Rules("input"), _ASKING)
_PLAIN = RunSpecification(Rules(), RunFacts("begun"))
_STARTS = StartSpecification(("r1", "r2"))


def call(called: float, returned: float | None, reply: Any, *act: Any, at: int = 0) -> Call:
    return Call(f"caller at {called:g}", at, act, called, returned, reply)


def vote(called: float, returned: float | None, reply: Any, person: str, yes: bool = True, at: int = 0) -> Call:
    return call(called, returned, reply, "vote", person, yes, True, at=at)


def answer(called: float, returned: float | None, reply: Any, person: str, value: Any) -> Call:
    return call(called, returned, reply, "answer", person, value, True)


def start(called: float, returned: float | None, reply: Any, value: int = 1) -> Call:
    return call(called, returned, reply, "start", "key", value)


def clock(when: float, over: bool = True, at: int = 0) -> Call:
    return call(when, when, True, "clock", over, at=at)


def tables(*facts: Any) -> Call:
    return call(99, 99, True, "file", facts)


def question(outcome: str, votes: tuple[Any, ...] = (), status: str = "completed", answered: Any = None) -> Call:
    value = answered[0] if answered else "expired" if not votes and answered is None else None
    if votes or outcome in ("approved", "rejected"):
        value = (outcome, outcome == "approved")
    return tables(status, False, False, outcome, votes, answered, value if status == "completed" else None)


_OPEN, _APPROVED = ("ok", "open"), ("ok", "approved")
_YES, _TOO = (("ann", True),), (("ann", True), ("bob", True))
_EXPIRED = ("closed", "expired", None)

GOOD: dict[str, tuple[Any, list[Call]]] = {
    "the later answer is told first": (
        _ONE,
        [vote(1, 6, _APPROVED, "ann"), vote(2, 3, ("closed", "approved", "ann"), "bob"), question("approved", _YES)],
    ),
    "an unheard vote counts": (
        _ONE,
        [vote(1, None, UNHEARD, "ann"), vote(2, 3, ("closed", "approved", "ann"), "bob"), question("approved", _YES)],
    ),
    "an unheard vote counts later": (
        _TWO,
        [vote(1, None, UNHEARD, "bob"), vote(2, 3, _OPEN, "ann"), question("approved", _TOO)],
    ),
    "an unheard vote does not count": (_ONE, [vote(1, None, UNHEARD, "ann"), question("open", (), "awaiting")]),
    "two of two cannot be reached any more": (
        _TWO_OF_TWO,
        [vote(1, 2, ("ok", "rejected"), "ann", False), question("rejected", (("ann", False),))],
    ),
    "the same vote again": (
        _TWO, [vote(1, 2, _OPEN, "ann"), vote(3, 4, _OPEN, "ann"), question("open", _YES, "awaiting")],
    ),
    "accepted just before the deadline": (
        _ONE, [vote(1, 4, _APPROVED, "ann"), clock(3), question("approved", _YES)],
    ),
    "expired by a clock that is ahead": (
        _INPUT, [clock(1, at=1), answer(2, 3, _EXPIRED, "ann", 5), question("expired")],
    ),
    "accepted where the clock is behind": (
        _ONE, [clock(1, at=1), vote(2, 3, _APPROVED, "ann", at=0), question("approved", _YES)],
    ),
    "a clock set back before anybody looked": (
        _ONE, [clock(1), clock(2, over=False), vote(3, 4, _APPROVED, "ann"), question("approved", _YES)],
    ),
    "a cancel and its completion": (
        _PLAIN,
        [
            call(1, 4, "counts", "cancel", None), call(1, 4, ("cancelled",), "result"),
            call(2, 3, ("in-progress", True, False, False), "look"),
            call(5, 6, ("ended", "cancelled"), "cancel", None),
            tables("cancelled", False, False, "", (), None, None),
        ],
    ),
    "starts that raced": (
        _STARTS,
        [start(1, 4, ("started", "r1")), start(2, 3, ("started", "r1")), start(5, 6, ("conflict", "r1"), 2),
         call(99, 99, True, "file", (("key", 1, "r1"),))],
    ),
    "a pause that is yet to settle": (
        _PLAIN, [call(1, 2, ("ok",), "pause"), tables("completed", False, False, "", (), None, "done")],
    ),
}  # fmt: skip

BAD: dict[str, tuple[Any, list[Call]]] = {
    "a lost vote": (_TWO, [vote(1, 2, _OPEN, "ann"), question("open", (), "awaiting")]),
    "a vote that counts although nobody gave it": (_TWO, [question("open", _YES, "awaiting")]),
    "two winners": (
        _ONE, [vote(1, 4, _APPROVED, "ann"), vote(2, 3, ("ok", "rejected"), "bob", False), question("approved", _YES)],
    ),
    "a stale read": (
        _PLAIN,
        [call(1, 2, "cancelled", "cancel", False), call(3, 4, ("in-progress", False, False, False), "look"),
         tables("cancelled", False, False, "", (), None, None)],
    ),
    "one vote that counts twice": (
        _TWO,
        [vote(1, 2, _OPEN, "ann"), vote(3, 4, _APPROVED, "ann"), question("approved", (*_YES, *_YES))],
    ),
    "accepted at the deadline": (_ONE, [clock(1), vote(2, 3, _APPROVED, "ann"), question("approved", _YES)]),
    "expired before the deadline": (_ONE, [vote(1, 2, _EXPIRED, "ann"), clock(3), question("expired")]),
    "open again after it had expired": (
        _ONE,
        [clock(1), vote(2, 3, _EXPIRED, "bob"), clock(4, over=False), vote(5, 6, _APPROVED, "ann"),
         question("approved", _YES)],
    ),
    "the wrong outcome is told": (
        _ONE,
        [vote(1, 2, _APPROVED, "ann"), vote(3, 4, ("closed", "rejected", "ann"), "bob"), question("approved", _YES)],
    ),
    "the votes count in another order": (
        _TWO, [vote(1, 2, _OPEN, "ann"), vote(3, 4, _APPROVED, "bob"), question("approved", _TOO[::-1])],
    ),
    "an approver who is none": (
        _TWO_OF_TWO, [vote(1, 2, _OPEN, "cleo"), question("open", (("cleo", True),), "awaiting")],
    ),
    "a vote of the dead": (
        # Its process had died before the other vote began, which saw it open.
        _TWO, [vote(1, 2, UNHEARD, "bob"), vote(3, 4, _OPEN, "ann"), question("approved", _TOO)],
    ),
    "an input that is accepted twice": (
        _INPUT,
        [answer(1, 4, ("ok", "answered"), "ann", 1), answer(2, 3, ("ok", "answered"), "bob", 2),
         question("answered", answered=(2, "bob"))],
    ),
    "a cancel that completion overwrites": (
        _PLAIN,
        [call(1, 2, "cancelling", "cancel", None), tables("completed", False, False, "", (), None, "done")],
    ),
    "a cancel that says too much": (
        _PLAIN,
        [call(1, 3, "counts", "cancel", None), call(1, 3, ("cancelled",), "result"),
         call(4, 5, ("in-progress", True, False, False), "look"),
         tables("cancelled", False, False, "", (), None, None)],
    ),
    "two runs for one key": (
        _STARTS,
        [start(1, 4, ("started", "r1")), start(2, 3, ("started", "r2")),
         call(99, 99, True, "file", (("key", 1, "r1"), ("key", 1, "r2")))],
    ),
    "a key that takes another input": (
        _STARTS,
        [start(1, 2, ("started", "r1")), start(3, 4, ("started", "r1"), 2),
         call(99, 99, True, "file", (("key", 1, "r1"),))],
    ),
    "a start that is lost": (_STARTS, [start(1, 2, ("started", "r1")), call(99, 99, True, "file", ())]),
    "a paused run that ends": (
        _PLAIN,
        [call(1, 2, ("ok",), "pause"), call(3, 4, ("awaiting", False, True, True), "look"),
         tables("completed", False, False, "", (), None, "done")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_is_explained(name: str) -> None:
    """Everything heard is in the explanation."""
    specification, calls = GOOD[name]
    happened = explain(calls, specification).happened
    assert {str(call) for call in calls if call.is_heard} <= {str(call) for call in happened}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_not_explained(name: str) -> None:
    """No order explains it, and the text shows every call."""
    specification, calls = BAD[name]
    with pytest.raises(NotLinearizable) as caught:
        explain(calls, specification)
    assert all(str(call) in str(caught.value) for call in calls)


# ------------------------------------------------------------------------------------------------------ the shares


def test_small() -> None:
    """The share of `make test`."""
    check_small(histories.HARNESS)


def test_small_with_real_processes() -> None:
    """The same with processes of the system."""
    check_small(real_histories.HARNESS)


@pytest.mark.parametrize("number", histories.REGRESSIONS)
def test_what_was_found_once_stays_mended(number: int) -> None:
    """The cases that found a bug hold."""
    histories.case(number, Tally())


@pytest.mark.parametrize("number", [0, 7, 42])
def test_a_number_always_gives_the_same_history(number: int) -> None:
    """Else a failure could not be looked at again."""
    first, second = Tally(), Tally()
    histories.case(number, first)
    histories.case(number, second)
    assert first == second


# ------------------------------------------------------------------------------------------------ what they found


@workflow(name="histories.asks")
async def asks(ctx: Context, timeout_ms: int | None) -> str:
    """Asks for two approvals."""
    return (await ctx.wait_for_approval("May it?", ApprovalConfig(timeout_ms, required_approvals=2))).outcome


async def _asked(timeout_ms: int | None = None) -> Any:
    execution = await asks.start(timeout_ms)
    async for event in execution.events():
        if event.status == "awaiting":
            return execution
    raise AssertionError("it ended without a question")


async def test_an_answer_in_the_commit_of_another_is_told_the_outcome(tmp_path: Path) -> None:
    """Three votes that name no request share a commit; the one too many is told what was decided."""
    async with connect(tmp_path / "runs.db"):
        execution = await _asked()
        votes = [execution.approve(by=person) for person in ("ann", "bob", "cleo")]
        *_, late = await asyncio.gather(*votes, return_exceptions=True)
        assert isinstance(late, RequestClosedError)
        assert (late.outcome, late.closed_by) == ("approved", "bob")


async def test_an_answer_in_the_commit_of_a_pause_is_not_handed_out_in_it(tmp_path: Path) -> None:
    """The code goes on after the resume."""
    async with connect(tmp_path / "runs.db", linger_ms=60_000):
        execution = await _asked()
        await execution.approve(by="ann")
        await asyncio.gather(execution.pause(), execution.approve(by="bob"))
        async for event in execution.events():
            if event.type == "request.completed":
                break
        await execution.refresh()
        assert execution.status == "awaiting"
        await execution.resume()
        assert await execution.result == "approved"
        types = [event.type async for event in execution.events()]
        assert types.index("run.completed") > types.index("run.resumed")


async def test_nobody_closed_what_was_cancelled(tmp_path: Path) -> None:
    """Somebody voted, but it was the cancel that closed it."""
    async with connect(tmp_path / "runs.db"):
        execution = await _asked()
        request_id = execution.requests[0].id
        await execution.approve(by="ann")
        await execution.cancel(graceful=False)
        with pytest.raises(RequestClosedError, match="already cancelled; ") as caught:
            await execution.approve(request_id=request_id, by="bob")
        assert caught.value.closed_by is None
