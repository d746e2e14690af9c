"""A run in words: what it is doing, who has to act, since when, and what happens if nobody does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from osprotocol._lifecycle.people import identity
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunSnapshot, RunStatus, Waiting
from osprotocol.server.console.timeline import Timeline
from osprotocol.server.console.words import NEARLY, count, duration, listed, rough

_PLAIN_ERRORS = ("StepFailedError", "TerminalError", "RunTimedOutError", "ChildFailedError")
_NOUNS = {"approval": "approval", "input": "answer", "attention": "decision"}


@dataclass(frozen=True, slots=True)
class Headline:
    """What stands over a run.

    Attributes:
        text: the sentence.
        more: sentences below it.
    """

    text: str
    more: tuple[str, ...] = ()


def headline(run: RunSnapshot, requests: Sequence[Request], timeline: Timeline, now: datetime) -> Headline:
    """The run in words.

    Args:
        run: where it stands.
        requests: its open requests.
        timeline: what happened.
        now: what "3 h" counts from.
    """
    if run.status.is_final:
        return _ended(run, timeline)
    more = _asked(run, requests, now)
    if run.cancelling:
        by = f" by {run.cancelled_by}" if run.cancelled_by else ""
        why = f": {run.cancel_reason}" if run.cancel_reason else ""
        return Headline(f"Cancelling, asked{by}{why}", ("Its cleanup is under way.",))
    pause = next((wait for wait in run.waiting_on if wait.kind == "paused" and wait.run_id is None), None)
    if pause is not None:
        return _paused(pause, timeline, more, now)
    if run.stuck:
        return Headline("Nothing moves this run", (run.stuck, *more))
    if run.status is RunStatus.PENDING:
        return Headline(f"Waiting for a worker, {rough(now - run.created_at)}")
    if run.status is RunStatus.AWAITING:
        return Headline(more[0], more[1:]) if more else Headline("Awaiting a person")
    return Headline(_working(run, timeline, now), more)


def _ended(run: RunSnapshot, timeline: Timeline) -> Headline:
    took = duration(timeline.ended_at - timeline.created_at) if timeline.ended_at and timeline.created_at else ""
    if run.status is RunStatus.COMPLETED:
        return Headline(f"Completed in {took}" if took else "Completed")
    if run.status is RunStatus.CANCELLED:
        by = f" by {run.cancelled_by}" if run.cancelled_by else ""
        return Headline(f"Cancelled{by}{f': {run.cancel_reason}' if run.cancel_reason else ''}")
    tries = f" after {count(run.attempt, 'attempt')}" if run.attempt > 1 else ""
    error = error_text(run)
    return Headline(f"Failed{tries}{f': {error}' if error else ''}")


def error_text(run: RunSnapshot) -> str:
    """Why a run failed, without what the page around it says already; "" when it did not fail."""
    if run.error is None:
        return ""
    message = run.error.message.removesuffix(f" (run {run.id})")
    return message if run.error.type in _PLAIN_ERRORS and message else f"{run.error.type}: {message}"


def _working(run: RunSnapshot, timeline: Timeline, now: datetime) -> str:
    span = timeline.attempts[-1] if timeline.attempts else None
    if span is not None and span.ended_at is not None:
        return f"Waits before attempt {run.attempt + 1}; attempt {span.name} failed: {span.why}"
    sleeping = any(bar.kind == "sleep" and bar.ended_at is None for bar in timeline.bars[-50:])
    word = "Sleeping" if sleeping and run.worker is None else "Working"
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    since = span.started_at if span is not None else run.created_at
    return f"{word}{attempt}, {rough(now - since)}"


def _paused(pause: Waiting, timeline: Timeline, more: tuple[str, ...], now: datetime) -> Headline:
    by = f" by {timeline.pause.name}" if timeline.pause is not None and timeline.pause.name else ""
    word = "Paused" if pause.settled else "Pausing, asked"
    why = f": {pause.prompt}" if pause.prompt else ""
    finishing = () if pause.settled else ("Running steps finish first; nothing new starts.",)
    return Headline(f"{word}{by}, {rough(now - pause.since)}{why}", (*finishing, *more))


def _asked(run: RunSnapshot, requests: Sequence[Request], now: datetime) -> tuple[str, ...]:
    """Sentences about the open questions, the first one about what is missing."""
    told: list[str] = []
    below = [wait for wait in run.waiting_on if wait.run_id is not None and wait.kind != "paused"]
    if len(requests) == 1:
        told += [missing(requests[0], now), *if_nobody(requests[0], now)]
    elif requests:
        oldest = min(request.opened_at for request in requests)
        told.append(f"Awaiting: {count(len(requests), 'answer')}, the oldest for {rough(now - oldest)}")
        ends = [request.expires_at for request in requests if request.expires_at is not None]
        if ends:
            told.append(f"The first one expires {_in(min(ends), now)}.")
    if below:
        oldest = min(wait.since for wait in below)
        runs = count(len({wait.run_id for wait in below}), "child run")
        told.append(f"Awaiting: {count(len(below), 'answer')} for {runs}, {rough(now - oldest)}")
    return tuple(told)


def missing(request: Request, now: datetime) -> str:
    """What a request lacks: ``Awaiting: 1 of 2 approvals, 3 h``."""
    if request.kind == "approval":
        given = sum(response.approved is True for response in request.responses)
        what = f"{given} of {count(request.required_approvals, 'approval')}"
    else:
        what = _NOUNS[request.kind]
    who = f" from {listed(tuple(request.approvers))}" if request.approvers else ""
    return f"Awaiting: {what}{who}, {rough(now - request.opened_at)}"


def if_nobody(request: Request, now: datetime) -> tuple[str, ...]:
    """What happens if nobody answers; nothing is said of a request that waits for ever."""
    if request.expires_at is None:
        return ()
    if request.kind == "approval":
        end = "approved" if request.auto_approve_on_timeout else "rejected"
    else:
        end = "an error in the run"
    return (f"Expires {_in(request.expires_at, now)}; if nobody answers: {end}.",)


def _in(moment: datetime, now: datetime) -> str:
    return f"in {rough(moment - now, NEARLY)}" if moment > now else "now"


def may_answer(request: Request, name: str) -> bool:
    """Whether a person is asked by an open request and has not voted yet."""
    person = identity(name)
    if request.status != "open" or any(identity(response.by) == person for response in request.responses):
        return False
    return not request.approvers or person in {identity(approver) for approver in request.approvers}


def held_by(run: RunSnapshot, now: datetime) -> tuple[str, datetime] | None:
    """On whom a run waits and since when, for a line in a list; None when nobody is asked."""
    if not run.waiting_on or run.status.is_final:
        return None
    first = min(run.waiting_on, key=lambda wait: wait.since)
    if first.kind == "paused":
        return ("paused" if first.settled else "pausing"), first.since
    asked = [wait for wait in run.waiting_on if wait.kind != "paused"]
    names = tuple(dict.fromkeys(name for wait in asked for name in wait.who))
    kinds = listed(tuple(dict.fromkeys(_NOUNS[wait.kind] for wait in asked)))
    return f"{kinds} from {listed(names) if names else 'anyone'}", first.since
