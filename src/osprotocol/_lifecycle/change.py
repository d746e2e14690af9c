"""The change that a command makes: fields and events are collected, then everything derived is settled in one place."""

from __future__ import annotations

from typing import Any

from osprotocol._json import encode
from osprotocol._lifecycle.policy import Policy, parse_policy
from osprotocol._lifecycle.state import Decision, Event, Followup, RequestState, RunState
from osprotocol.errors import FencedError, InvalidTransitionError
from osprotocol.protocol.run import RunStatus

_US_PER_MS = 1_000


def category(state: RunState | None) -> str:
    """How a child counts for its parent: ``moving``, ``waiting``, ``ended``, or "" before it exists."""
    if state is None:
        return ""
    if state.is_final:
        return "ended"
    return "waiting" if state.status is RunStatus.AWAITING else "moving"


class Change:
    """One command's changes to one run, under construction."""

    def __init__(self, state: RunState, now: int, before: RunState | None) -> None:
        self.state = state
        self.now = now
        self.before = before
        self.events: list[Event] = []
        self.requests: list[RequestState] = []
        self.followups: list[Followup] = []
        self.reply: Any = None
        self.error: Exception | None = None

    @property
    def policy(self) -> Policy:
        return parse_policy(self.state.policy)

    def set(self, **fields: Any) -> None:
        self.state = self.state._replace(**fields)

    def emit(self, type: str, value: Any = None, position: str | None = None, name: str | None = None) -> int:
        """Add an event and give its number. `value` is plain data."""
        number = self.state.event + len(self.events) + 1
        text = None if value is None else encode(value)
        self.events.append(Event(number, self.now, type, None, position, name, None, None, text))
        return number

    def put(self, request: RequestState) -> None:
        """Store a request as it now is."""
        self.requests = [known for known in self.requests if known.key != request.key] + [request]
        others = tuple(known for known in self.state.requests if known.key != request.key)
        open_requests = (*others, request) if request.is_open else others
        self.set(requests=open_requests, open_requests=sum(known.is_open for known in open_requests))

    def close_open_requests(self, position: str | None = None) -> None:
        """Nobody is asked any more; with a position, only what was asked there closes."""
        for request in self.state.requests:
            if request.is_open and position in (None, request.position):
                self.put(request._replace(status="cancelled", closed_at=self.now))
                told = {"requestId": request.id, "outcome": "cancelled"}
                self.emit("request.closed", told, request.position, request.kind)

    def wake(self, number: int) -> None:
        """The event gives the code something to do."""
        self.set(wake=number)

    def refuse(self, command: str, advice: str = "") -> InvalidTransitionError:
        """The error for a command that the status does not allow."""
        status = "cancelling" if self.state.cancel == "cancelling" else self.state.status.value
        return InvalidTransitionError(self.state.id, command, status, advice)

    def fence(self, epoch: int) -> None:
        """Refuse what an attempt writes that no longer owns the run.

        Raises:
            FencedError: the run has another epoch or is final.
        """
        if epoch != self.state.epoch or self.state.is_final:
            raise FencedError(self.state.id)

    def clear_pause(self) -> None:
        """End a pause; sleeps and retry delays are prolonged by the time that stood still."""
        state = self.state
        stood = max(0, self.now - state.pause_settled_at) if state.pause_settled_at is not None else 0
        self.set(
            pause_at=None,
            pause_settled_at=None,
            pause_by=None,
            pause_reason=None,
            paused_us=state.paused_us + stood,
            wake_at=None if state.wake_at is None else state.wake_at + stood,
            retry_at=None if state.retry_at is None else state.retry_at + stood,
        )

    def end(
        self, status: RunStatus, type: str, value: Any, *, text: str | None = None, error: str | None = None
    ) -> None:
        """Make the run final: every open request closes, every living child is told."""
        state = self.state
        self.close_open_requests()
        self.emit(type, value)
        last = self.events[-1]
        self.events[-1] = last._replace(status=status, value=last.value if text is None else text)
        if state.children_moving or state.children_waiting:
            from osprotocol._lifecycle.commands import Cancel

            reason = f"the parent run ended {status.value}"
            self.followups.append(Followup("children", Cancel(f"run:{state.id}", reason, None, following=True)))
        forced = state.executing and status is RunStatus.CANCELLED
        self.set(
            status=status,
            ended_at=self.now,
            owner=None,
            executing=False,
            wake=0,
            wake_at=None,
            retry_at=None,
            cancel="none",
            cancel_deadline=None,
            pause_at=None,
            pause_settled_at=None,
            error=error,
            epoch=state.epoch + 1 if forced else state.epoch,
        )

    def decision(self) -> Decision:
        """Settle what is derived and give the decision."""
        state = self.state._replace(event=self.state.event + len(self.events), updated_at=self.now)
        if not state.is_final and state.pause_at is not None and state.pause_settled_at is None and not state.executing:
            state = state._replace(pause_settled_at=self.now)
            if self.events and self.events[-1].type == "run.paused":
                pass  # settled with the pause itself; one event tells both
            else:
                state = self._append(state, Event(state.event + 1, self.now, "run.pause-settled"))
        held = state.is_held
        if not state.is_final:
            state = self._settle_status(state, held)
        state = _settle_clock(state, self.now)
        ready = _is_ready(state, held)
        state = state._replace(
            ready_at=(state.ready_at or self.now) if ready else None,
            due_at=_due_at(state, held),
        )
        if state.parent is not None:
            was, now_is = category(self.before), category(state)
            if was != now_is:
                from osprotocol._lifecycle.commands import ChildChanged

                change = ChildChanged(state.id, state.position or "", was, now_is)
                self.followups.append(Followup("parent", change))
        return Decision(state, self.events, self.requests, self.followups, self.reply, self.error)

    def _append(self, state: RunState, event: Event) -> RunState:
        self.events.append(event)
        return state._replace(event=event.number)

    def _settle_status(self, state: RunState, held: bool) -> RunState:
        status = _status(state, held)
        if status is state.status:
            return state
        state = state._replace(status=status)
        # A change of status is always seen in an event: the last one of this decision, or one of its own.
        if self.events and self.events[-1].status is None:
            self.events[-1] = self.events[-1]._replace(status=status)
            return state
        return self._append(state, Event(state.event + 1, self.now, "run.status", status))


def _status(state: RunState, held: bool) -> RunStatus:
    if state.attempt == 0:
        return RunStatus.PENDING
    if state.executing or state.cancel == "cancelling" or (state.wake and not held) or state.children_moving:
        return RunStatus.IN_PROGRESS
    if state.open_requests or state.pause_settled_at is not None or state.children_waiting:
        return RunStatus.AWAITING
    return RunStatus.IN_PROGRESS


def _settle_clock(state: RunState, now: int) -> RunState:
    counting = (
        state.status is RunStatus.IN_PROGRESS
        and state.attempt_at is not None
        and not (state.owner is None and state.wake)
        and state.pause_settled_at is None
    )
    if counting and state.active_since is None:
        return state._replace(active_since=now)
    if not counting and state.active_since is not None:
        spent = max(0, now - state.active_since)
        return state._replace(active_us=state.active_us + spent, active_since=None)
    return state


def _is_ready(state: RunState, held: bool) -> bool:
    if state.is_final or state.owner is not None:
        return False
    if state.cancel != "none":
        return True
    return not held and (state.wake > 0 or state.attempt == 0)


def timeout_at(state: RunState) -> int | None:
    """When the attempt's timeout passes, as things stand."""
    policy = parse_policy(state.policy)
    if policy.timeout_ms is None or state.timed_out or state.attempt_at is None or state.cancel == "cancelling":
        return None
    if policy.timeout_clock == "wall":
        return state.attempt_at + policy.timeout_ms * _US_PER_MS
    if state.active_since is None:
        return None
    return state.active_since + policy.timeout_ms * _US_PER_MS - state.active_us


def _due_at(state: RunState, held: bool) -> int | None:
    if state.is_final:
        return None
    due = [request.expires_at for request in state.requests if request.is_open and request.expires_at is not None]
    if state.cancel_deadline is not None:
        due.append(state.cancel_deadline)
    if state.pause_settled_at is None:
        if state.retry_at is not None:
            due.append(state.retry_at)
        if state.owner is None and state.wake_at is not None and not state.wake:
            due.append(state.wake_at)
    if not (state.owner is None and (state.wake or held)):
        timeout = timeout_at(state)
        if timeout is not None:
            due.append(timeout)
    return min(due, default=None)
