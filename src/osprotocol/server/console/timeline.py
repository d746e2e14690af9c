"""What happened to a run, read from its events: bars, attempts, pauses and how long it was in which status. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from osprotocol.protocol.events import Event

_BEGIN = frozenset(("step.started", "step.retrying", "sleep.started", "child.started"))
_END = frozenset(("step.completed", "step.failed", "sleep.completed", "child.completed"))
_FINAL = frozenset(("completed", "failed", "cancelled"))


@dataclass(slots=True, eq=False)
class Bar:
    """One operation of the run, or one question to a person.

    Attributes:
        key: names it in addresses: its position in the code, for questions the request's id.
        kind: ``step``, ``sleep``, ``child``, ``approval``, ``input`` or ``attention``.
        position: in the code; None for a gate that was put on the run from outside.
        started_at: for a step that failed and is tried again before its outcome is known, its first failure.
        outcome: ``completed``, ``failed``, or how a request closed; "" while it goes on.
        attempt: of the run, in which it began.
        failures: when a try failed, for steps that are tried again.
        tries: so far.
        last_try_at: when the newest try began, where that is known.
        is_forgotten: a new attempt of the run does it again.
        is_taken_over: it comes from the run that this one was made from.
        event: number of the event that holds its result, or its question.
        run_id: of the child run.
        by: who closed a request.
    """

    key: str
    kind: str
    name: str
    position: str | None
    started_at: datetime
    attempt: int
    ended_at: datetime | None = None
    outcome: str = ""
    failures: list[datetime] = field(default_factory=list)
    tries: int = 1
    last_try_at: datetime | None = None
    is_forgotten: bool = False
    is_taken_over: bool = False
    event: int = 0
    run_id: str | None = None
    by: str | None = None

    @property
    def is_human(self) -> bool:
        """A person was asked."""
        return self.kind in ("approval", "input", "attention")

    @property
    def depth(self) -> int:
        """How many branches it is inside of."""
        return self.position.count(".") // 2 if self.position else 0


@dataclass(slots=True)
class Span:
    """A stretch of time: an attempt, a pause, a time in one status.

    Attributes:
        name: number of the attempt, who paused, the status.
        why: reason of a pause, error that ended an attempt.
    """

    name: str
    started_at: datetime
    ended_at: datetime | None = None
    why: str | None = None

    def length(self, now: datetime) -> timedelta:
        """How long it was, or is so far."""
        return max(timedelta(0), (self.ended_at or now) - self.started_at)


class Timeline:
    """Reads a run's events, in order, as they come.

    Attributes:
        event: number of the last event read.
        bars: in the order in which they became known; `rows` has them by time.
        created_at, ended_at: of the run.
    """

    def __init__(self) -> None:
        self.event = 0
        self.bars: list[Bar] = []
        self.attempts: list[Span] = []
        self.pauses: list[Span] = []
        self.statuses: list[Span] = []
        self.created_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.latest_at: datetime | None = None
        self._living: dict[str, Bar] = {}
        self._rows: list[Bar] | None = None

    def feed(self, events: Iterable[Event]) -> None:
        """Read more events; those that were read before are skipped."""
        for event in events:
            if event.number > self.event:
                self._read(event)
                self.event = event.number
                self._rows = None

    def rows(self) -> list[Bar]:
        """All bars by when they began."""
        if self._rows is None:
            self._rows = sorted(self.bars, key=lambda bar: bar.started_at)
        return self._rows

    def find(self, key: str) -> Bar | None:
        """The newest bar of that key; a request is also found by its position."""
        for bar in reversed(self.bars):
            if bar.key == key:
                return bar
        return next((bar for bar in reversed(self.bars) if bar.position == key), None)

    @property
    def attempt(self) -> int:
        """Number of the current attempt; 0 before the first."""
        return len(self.attempts)

    @property
    def pause(self) -> Span | None:
        """The pause that is on."""
        return self.pauses[-1] if self.pauses and self.pauses[-1].ended_at is None else None

    # ---------------------------------------------------------------- reading

    def _read(self, event: Event) -> None:
        self.latest_at = event.at
        if event.status is not None:
            self._enter(event.status.value, event.at)
        area, _, what = event.type.partition(".")
        data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
        if area == "run":
            self._read_run(what, event, data)
        elif event.type in ("request.opened", "request.reopened"):
            self._ask(event, data)
        elif event.type == "request.closed":
            self._close(event, data)
        elif event.type == "request.completed":
            self._delivered(event)
        elif event.type in _BEGIN and event.key is not None:
            self._begin(event, data)
        elif event.type in _END and event.key is not None:
            self._end(event, data)

    def _enter(self, status: str, at: datetime) -> None:
        if self.statuses:
            self.statuses[-1].ended_at = at
        self.statuses.append(Span(status, at))
        if status in _FINAL:
            self._finish(status, at)

    def _finish(self, status: str, at: datetime) -> None:
        self.ended_at = self.statuses[-1].ended_at = at
        for span in (*self.attempts[-1:], *self.pauses[-1:]):
            span.ended_at = span.ended_at or at
        for bar in self._living.values():
            if bar.ended_at is None:
                bar.ended_at, bar.outcome = at, "cancelled" if status == "cancelled" else "abandoned"

    def _read_run(self, what: str, event: Event, data: dict[str, Any]) -> None:
        if what == "started":
            self.created_at = event.at
        elif what == "claimed" and int(data.get("attempt", 0)) > self.attempt:
            self.attempts.append(Span(str(data["attempt"]), event.at))
        elif what == "retrying":
            self._try_again(event, data)
        elif what == "paused":
            self.pauses.append(Span(str(data.get("by") or ""), event.at, None, data.get("reason")))
        elif what in ("resumed", "cancelling") and self.pause is not None:
            self.pauses[-1].ended_at = event.at

    def _try_again(self, event: Event, data: dict[str, Any]) -> None:
        error = data.get("error") or {}
        if self.attempts:
            self.attempts[-1].ended_at = event.at
            self.attempts[-1].why = f"{error.get('type', 'Error')}: {error.get('message', '')}"
        for position in data.get("forgotten", ()):
            for key in (position, f"?{position}"):
                bar = self._living.pop(key, None)
                if bar is not None:
                    bar.is_forgotten = True
                    bar.ended_at = bar.ended_at or event.at
                    bar.outcome = bar.outcome or "abandoned"

    def _new(self, bar: Bar, living: str) -> Bar:
        if not self.attempts:
            bar.is_taken_over = True
        self.bars.append(bar)
        self._living[living] = bar
        return bar

    def _began(self, event: Event, data: dict[str, Any]) -> datetime:
        told = data.get("startedAt")
        began = datetime.fromisoformat(told) if isinstance(told, str) else event.at
        return max(began, self.created_at) if self.created_at is not None else began

    def _bar(self, event: Event, data: dict[str, Any]) -> Bar:
        assert event.key is not None
        known = self._living.get(event.key)
        if known is not None:
            return known
        kind = event.type.partition(".")[0]
        began = self._began(event, data)
        return self._new(Bar(event.key, kind, event.name or kind, event.key, began, self.attempt), event.key)

    def _begin(self, event: Event, data: dict[str, Any]) -> None:
        bar = self._bar(event, data)
        bar.event = event.number
        if event.type == "step.retrying":
            bar.failures.append(event.at)
            bar.tries += 1
        if event.type == "child.started":
            bar.run_id = data.get("runId")

    def _end(self, event: Event, data: dict[str, Any]) -> None:
        bar = self._bar(event, data)
        bar.event, bar.ended_at, bar.last_try_at = event.number, event.at, self._began(event, data)
        failed = event.type == "step.failed" or (event.type == "child.completed" and data.get("status") != "completed")
        bar.outcome = "failed" if failed else "completed"
        if event.type == "child.completed":
            bar.outcome = str(data.get("status") or bar.outcome)
        if event.type == "step.failed":
            bar.tries = int(data.get("attempts", bar.tries))

    def _ask(self, event: Event, data: dict[str, Any]) -> None:
        request_id = str(data.get("requestId"))
        known = next((bar for bar in reversed(self.bars) if bar.key == request_id), None)
        if known is not None:
            known.ended_at, known.outcome = None, ""  # the answer was refused: it is open again
            return
        name = str(data.get("prompt") or event.name or "question")
        bar = Bar(request_id, str(data.get("kind") or event.name), name, event.key, event.at, self.attempt)
        bar.event = event.number
        self._new(bar, request_id if event.key is None else f"?{event.key}")

    def _close(self, event: Event, data: dict[str, Any]) -> None:
        request_id = str(data.get("requestId"))
        bar = next((bar for bar in reversed(self.bars) if bar.key == request_id), None)
        if bar is not None and bar.ended_at is None:
            bar.ended_at, bar.outcome, bar.by = event.at, str(data.get("outcome") or "closed"), data.get("by")

    def _delivered(self, event: Event) -> None:
        """The code has the answer. In a run made from another this is all that tells of the closing."""
        bar = self._living.get(f"?{event.key}")
        if bar is not None and bar.ended_at is None:
            bar.ended_at, bar.outcome = event.at, "answered"


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where a run's time went.

    Attributes:
        active: it was in progress; the delays between attempts do not count.
        waiting: a person had to act, pauses not counted.
        paused: somebody held it.
        queued: accepted, no worker had it yet.
        total: from its start to its end, or until now.
    """

    active: timedelta
    waiting: timedelta
    paused: timedelta
    queued: timedelta
    total: timedelta


def clocks(timeline: Timeline, now: datetime) -> Clocks:
    """Where the run's time went."""
    nothing = timedelta(0)
    pauses = [(pause.started_at, pause.ended_at or now) for pause in timeline.pauses]
    spent = dict.fromkeys(("in-progress", "awaiting", "pending"), nothing)
    paused_by_status = dict(spent)
    for span in timeline.statuses:
        if span.name in spent:
            start, end = span.started_at, span.ended_at or now
            spent[span.name] += max(nothing, end - start)
            for began, over in pauses:
                paused_by_status[span.name] += max(nothing, min(end, over) - max(start, began))
    delays = nothing
    for before, after in pairwise(timeline.attempts):
        delays += max(nothing, after.started_at - (before.ended_at or after.started_at))
    if timeline.attempts and timeline.ended_at is None and timeline.attempts[-1].ended_at is not None:
        delays += max(nothing, now - timeline.attempts[-1].ended_at)
    total = nothing
    if timeline.created_at is not None:
        total = max(nothing, (timeline.ended_at or now) - timeline.created_at)
    paused = paused_by_status["awaiting"] + paused_by_status["pending"]
    return Clocks(
        active=max(nothing, spent["in-progress"] - delays),
        waiting=spent["awaiting"] - paused_by_status["awaiting"],
        paused=paused,
        queued=spent["pending"] - paused_by_status["pending"],
        total=total,
    )
