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
        self._state = state
        self._fields: dict[str, Any] = {}
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

    @property
    def state(self) -> RunState:
        """The run as changed so far."""
        if self._fields:
            self._state = self._state._replace(**self._fields)
            self._fields = {}
        return self._state

    def set(self, **fields: Any) -> None:
        self._fields.update(fields)

    def emit(self, type: str, value: Any = None, position: str | None = None, name: str | None = None) -> int:
        """Add an event and give its number. `value` is plain data."""
        number = self._state.event + len(self.events) + 1
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
            FencedError: the run has another epoch, no owner (given back, taken away, final).
        """
        if epoch != self.state.epoch or self.state.owner is None:
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
        if self.before is not None and self.before.is_final and not self.events:
            return Decision(self.before, [], [], [], self.reply, self.error)
        state = self.state
        if (
            state.pause_at is not None
            and state.pause_settled_at is None
            and not state.executing
            and state.ended_at is None
        ):
            self.set(pause_settled_at=self.now)
            # An event of its own, unless the pause settles where it was asked for: one event tells both.
            if not self.events or self.events[-1].type != "run.paused":
                self.emit("run.pause-settled")
            state = self.state
        held = state.is_held
        if state.owner is not None and state.wake and not held and not state.executing:
            # The attempt that holds the run in memory goes on with it, without a word of its own.
            self.set(executing=True)
            state = self.state
        status = state.status if state.ended_at is not None else _status(state, held)
        if status is not state.status:
            self._tell_status(status)
        active_us, active_since = _active(state, status, self.now)
        self.set(
            status=status,
            event=state.event + len(self.events),
            active_us=active_us,
            active_since=active_since,
            ready_at=(state.ready_at or self.now) if _is_ready(state, held) else None,
            updated_at=self.now,
        )
        state = self.state
        due_at = _due_at(state, held)
        if due_at != state.due_at:
            state = state._replace(due_at=due_at)
        if state.parent is not None:
            self._tell_parent(state)
        return Decision(state, self.events, self.requests, self.followups, self.reply, self.error)

    def _tell_status(self, status: RunStatus) -> None:
        """A change of status is always seen in an event: the last one of this decision, or one of its own."""
        if not self.events or self.events[-1].status is not None:
            self.emit("run.status")
        self.events[-1] = self.events[-1]._replace(status=status)

    def _tell_parent(self, state: RunState) -> None:
        was, now_is = category(self.before), category(state)
        if was != now_is:
            from osprotocol._lifecycle.commands import ChildChanged

            change = ChildChanged(state.id, state.position or "", was, now_is)
            self.followups.append(Followup("parent", change))


def _status(state: RunState, held: bool) -> RunStatus:
    if state.attempt == 0:
        return RunStatus.PENDING
    if state.executing or state.cancel == "cancelling" or (state.wake and not held) or state.children_moving:
        return RunStatus.IN_PROGRESS
    if state.open_requests or state.pause_settled_at is not None or state.children_waiting:
        return RunStatus.AWAITING
    return RunStatus.IN_PROGRESS


def _active(state: RunState, status: RunStatus, now: int) -> tuple[int, int | None]:
    """The attempt's time on the active clock, and since when that clock runs."""
    counting = (
        status is RunStatus.IN_PROGRESS
        and state.attempt_at is not None
        and not (state.owner is None and state.wake)
        and state.pause_settled_at is None
    )
    if state.active_since is None:
        return state.active_us, now if counting else None
    if counting:
        return state.active_us, state.active_since
    return state.active_us + max(0, now - state.active_since), None


def _is_ready(state: RunState, held: bool) -> bool:
    if state.is_final or state.owner is not None:
        return False
    if state.cancel == "cancelling" or (state.cancel == "asked" and state.retry_at is None):
        return True
    # An answer or a child's end does not shorten the delay before a retry.
    return not held and state.retry_at is None and (state.wake > 0 or state.attempt == 0)


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


def timeout_left(state: RunState) -> int | None:
    """What is left of the attempt's timeout, in microseconds, while its clock stands still; None while it runs."""
    policy = parse_policy(state.policy)
    if policy.timeout_ms is None or state.timed_out or state.attempt_at is None or state.is_final:
        return None
    if policy.timeout_clock == "wall" or state.active_since is not None or state.cancel == "cancelling":
        return None
    return max(0, policy.timeout_ms * _US_PER_MS - state.active_us)


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
