"""Runs as they look from outside the engine: updates and snapshots, made only when somebody reads them."""

from __future__ import annotations

from typing import Any

from osprotocol._embedded import listing
from osprotocol._embedded.store import Store
from osprotocol._embedded.transaction import Change
from osprotocol._json import decode
from osprotocol._lifecycle.snapshot import request_of, snapshot_of
from osprotocol._lifecycle.state import RunState
from osprotocol.engine import Update
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import RunSnapshot, RunStatus


def update_of(store: Store, change: Change, reply: Any = None) -> Update:
    """What a change means for those who watch the run."""
    state = change.state
    result = None
    if state.status is RunStatus.COMPLETED:
        result = next((event.value for event in change.events if event.type == "run.completed"), None)
    return Update(
        state.id,
        state.status,
        state.event,
        lambda: snapshot_in(store, state),
        lambda: _open_requests(state),
        lambda: [listing.wire_event(state.id, 0, event) for event in change.events],
        result,
        reply,
    )


def snapshot_in(store: Store, state: RunState) -> RunSnapshot:
    """The run, with who holds it and why it may be stuck."""
    return snapshot_of(
        state,
        worker=_worker_name(store, state.owner),
        stuck=_stuck(store, state),
        below=listing.waiting_below(store, state),
    )


def _worker_name(store: Store, key: int | None) -> str | None:
    rows = store.rows("worker_name", (key,)) if key is not None else []
    return str(rows[0][0]) if rows else None


def _stuck(store: Store, state: RunState) -> str | None:
    """Why a run that could go on does not: nobody living knows its workflow."""
    if state.ready_at is None:
        return None
    if any(state.workflow in decode(row[3]) for row in store.rows("living_workers")):
        return None
    return f"no living worker knows workflow {state.workflow!r}; start one with 'osp worker'"


def _open_requests(state: RunState) -> list[Request]:
    return [request_of(request, state.id, state.workflow) for request in state.requests if request.is_open]
