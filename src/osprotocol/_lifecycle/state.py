"""What is stored about a run and about a request: flat, immutable, one field a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from osprotocol.protocol.run import RunStatus


class RequestState(NamedTuple):
    """One durable question. Instants are microseconds.

    `position` is where the code asked; None for a gate from outside and for attention that concerns the whole run.
    A request without a position holds the run: nothing of it starts until it is decided.
    """

    key: int
    id: str
    run: int
    kind: str
    position: str | None
    status: str
    prompt: str
    payload: str | None
    digest: str
    revision: int
    schema: str | None
    approvers: str
    required: int
    threshold: int
    auto_approve: bool
    on_reject: str
    opened_at: int
    expires_at: int | None
    closed_at: int | None
    responses: str
    answer: str | None
    message: str | None

    @property
    def is_open(self) -> bool:
        return self.status == "open"

    @property
    def holds(self) -> bool:
        return self.position is None and self.status == "open"


class RunState(NamedTuple):
    """One run. Instants are microseconds since 1970 UTC, 0 and None both mean "not".

    Attributes:
        epoch: grows with each claim and each forced end; a write that names an older one is refused.
        owner: key of the worker that holds it.
        event: number of its last event.
        executing: code or a step of it executes now.
        wake: number of the event that gave its code something to do and that no attempt has taken up yet.
        ready_at: since when a worker may claim it; None when there is nothing to claim. Derived.
        due_at: when a timer of it is due next. Derived.
        wake_at: when a sleep of the parked code ends.
        active_us, active_since: the attempt's time on the active clock, and since when it runs.
        attempt_at: when the current attempt began; None between attempts.
        paused_us: how long it has been paused in all; what sleeps are prolonged by.
        cancel: ``none``, ``asked`` (its before_cancel is yet to judge) or ``cancelling``.
        judged: its code or its starter has a before_cancel.
        deaths: workers in a row that died while it executed.
        open_requests: how many of its requests are open; those are loaded into `requests`.
    """

    key: int
    id: str
    workflow: str
    version: str | None
    status: RunStatus
    attempt: int
    epoch: int
    owner: int | None
    event: int
    executing: bool
    wake: int
    ready_at: int | None
    due_at: int | None
    wake_at: int | None
    retry_at: int | None
    active_us: int
    active_since: int | None
    attempt_at: int | None
    timed_out: bool
    pause_at: int | None
    pause_settled_at: int | None
    pause_by: str | None
    pause_reason: str | None
    paused_us: int
    cancel: str
    cancel_at: int | None
    cancel_deadline: int | None
    cancel_by: str | None
    cancel_reason: str | None
    judged: bool
    deaths: int
    parent: int | None
    parent_id: str | None
    position: str | None
    depth: int
    children_moving: int
    children_waiting: int
    open_requests: int
    policy: str
    labels: str
    idempotency_key: str | None
    input_digest: str
    origin: str | None
    seed: str
    progress_current: int
    progress_total: int
    progress_message: str | None
    error: str | None
    created_at: int
    started_at: int | None
    updated_at: int
    ended_at: int | None
    requests: tuple[RequestState, ...] = ()

    @property
    def is_final(self) -> bool:
        return self.ended_at is not None

    @property
    def is_held(self) -> bool:
        """Nothing of the run may start: it is paused, or a request stands in front of it."""
        return self.pause_settled_at is not None or any(request.holds for request in self.requests)


class Event(NamedTuple):
    """One record of the journal, numbered in its run."""

    number: int
    at: int
    type: str
    status: RunStatus | None = None
    position: str | None = None
    name: str | None = None
    digest: str | None = None
    started_at: int | None = None
    value: str | None = None


class Followup(NamedTuple):
    """A command for the parent or for every living child, part of the same transaction."""

    target: str
    command: Any


class Decision(NamedTuple):
    """What a command changes. `error` is told to the caller after the changes are committed."""

    state: RunState
    events: list[Event]
    requests: Sequence[RequestState] = ()
    followups: Sequence[Followup] = ()
    reply: Any = None
    error: Exception | None = None


RUN_COLUMNS: tuple[str, ...] = RunState._fields[:-1]
REQUEST_COLUMNS: tuple[str, ...] = RequestState._fields
