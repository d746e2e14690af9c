"""A run's and a request's stored state as the shapes that go out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from osprotocol._clock import to_datetime
from osprotocol._json import decode, reads_stored
from osprotocol._lifecycle.change import timeout_at, timeout_left
from osprotocol._lifecycle.state import RequestState, RunState
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import ErrorInfo, ExecutionProgress, Origin, RunSnapshot, Waiting


def _moment(instant: int | None) -> datetime | None:
    return None if instant is None else to_datetime(instant)


@reads_stored
def waiting_on(state: RunState) -> tuple[Waiting, ...]:
    """Why the run does not move by itself, oldest first."""
    if state.is_final:
        return ()
    waits = [
        Waiting.model_construct(
            kind=cast(Any, request.kind),
            since=to_datetime(request.opened_at),
            who=tuple(decode(request.approvers)),
            until=_moment(request.expires_at),
            request_id=request.id,
            settled=True,
            prompt=request.prompt,
            run_id=None,
        )
        for request in state.requests
        if request.is_open
    ]
    if state.pause_at is not None:
        waits.append(
            Waiting(
                kind="paused",
                since=to_datetime(state.pause_at),
                who=(),
                settled=state.pause_settled_at is not None,
                prompt=state.pause_reason,
            )
        )
    return tuple(sorted(waits, key=lambda wait: wait.since))


def progress_of(state: RunState) -> ExecutionProgress:
    """How far the run says it is."""
    return ExecutionProgress(current=state.progress_current, total=state.progress_total, message=state.progress_message)


@reads_stored
def snapshot_of(
    state: RunState, *, worker: str | None = None, stuck: str | None = None, below: tuple[Waiting, ...] = ()
) -> RunSnapshot:
    """The run as it looks from outside; `below` is what its children wait for."""
    error, origin = decode(state.error), decode(state.origin)
    passes, left = (None, None) if state.is_final else (timeout_at(state), timeout_left(state))
    return RunSnapshot(
        id=state.id,
        workflow=state.workflow,
        version=state.version,
        status=state.status,
        progress=progress_of(state),
        attempt=state.attempt,
        event=state.event,
        waiting_on=(*waiting_on(state), *below),
        cancelling=state.cancel != "none",
        cancel_reason=state.cancel_reason,
        cancelled_by=state.cancel_by,
        labels=decode(state.labels),
        idempotency_key=state.idempotency_key,
        parent_id=state.parent_id,
        origin=None if origin is None else Origin(**origin),
        worker=worker,
        timeout_at=_moment(passes),
        timeout_left_ms=None if left is None else left // 1_000,
        stuck=stuck,
        created_at=to_datetime(state.created_at),
        started_at=_moment(state.started_at),
        updated_at=to_datetime(state.updated_at),
        ended_at=_moment(state.ended_at),
        error=None if error is None else ErrorInfo(**error),
    )


@reads_stored
def request_of(state: RequestState, run_id: str, workflow: str) -> Request:
    """The request as it looks from outside."""
    return Request(
        id=state.id,
        run_id=run_id,
        workflow=workflow,
        kind=cast(Any, state.kind),
        status=cast(Any, state.status),
        prompt=state.prompt,
        payload=decode(state.payload),
        digest=state.digest,
        revision=state.revision,
        schema=decode(state.schema),
        approvers=tuple(decode(state.approvers)),
        required_approvals=state.required,
        reject_threshold=state.threshold,
        auto_approve_on_timeout=bool(state.auto_approve),
        opened_at=to_datetime(state.opened_at),
        expires_at=_moment(state.expires_at),
        closed_at=_moment(state.closed_at),
        responses=tuple(decode(state.responses)),
        answer=decode(state.answer),
        message=state.message,
        gate=state.position is None and state.kind != "attention",
    )
