"""Operations on whole runs: taking over a journal, deleting, pruning, backup."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw

from osprotocol._embedded.database import sync_folder, translated
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.replay import CANCEL, entries_until, read_journal
from osprotocol._embedded.transaction import Change, Transaction, checksum
from osprotocol._embedded.upstream import is_copy, make_independent
from osprotocol._json import decode, encode
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.people import closer_of
from osprotocol._lifecycle.positions import forgotten
from osprotocol._lifecycle.state import Event, RunState
from osprotocol.engine import Acting, operating_system_user
from osprotocol.errors import (
    InvalidOptionError,
    InvalidTransitionError,
    ReadOnlyError,
    RequestClosedError,
    RunNotFoundError,
)
from osprotocol.protocol.run import RunStatus

_PRUNE_AT_ONCE = 100
_TOUCHED_CHARACTERS = 32_768


def take_over(
    transaction: Transaction, key: int, kind: str, after_step: str | None, new_id: str, who: Acting | None
) -> Change:
    """Start a new run with part of another's journal.

    Raises:
        InvalidTransitionError: the other run is not in a state from which that makes sense.
        InvalidOptionError: `after_step` is none of its completed steps.
    """
    state = transaction.state(key)
    events = transaction.journal(key)
    kept = _kept_for_retry(state, events) if kind == "retry" else _kept_for_fork(events, after_step)
    origin = {"kind": kind, "runId": state.id, "afterStep": after_step}
    start = c.Start(
        key=transaction.next_run_key(),
        id=new_id,
        workflow=state.workflow,
        version=state.version,
        input=events[0].value,
        input_digest=state.input_digest,
        policy=state.policy,
        labels=state.labels,
        judged=bool(state.judged),
        origin=encode(origin),
        seed=state.seed,
    )
    decision = transaction.apply(None, start)
    detail = {"as": new_id, "afterStep": after_step}
    transaction.note(f"run.{kind}", who, state.id, detail, by=operating_system_user(), made=new_id)
    if kept:
        entries = tuple(
            c.Entry(event.type, event.position, event.name, event.digest, event.started_at, event.value)
            for event in kept
        )
        decision = transaction.apply(decision.state.key, c.TakeOver(entries))
    return Change(decision.state, decision.events)


def _kept_for_retry(state: RunState, events: list[Event]) -> list[Event]:
    if state.status is RunStatus.FAILED:
        kept = entries_until(events, state.event)
        position = (decode(state.error) or {}).get("details", {}).get("position")
        if position is None:
            return kept
        gone = set(forgotten({event.position for event in kept if event.position}, position))
        return [event for event in kept if event.position not in gone]
    if state.status is RunStatus.CANCELLED:
        delivered = next((event.number for event in events if event.type == CANCEL), None)
        after = [event for event in events if delivered is not None and event.number > delivered]
        if any(event.type in ("step.completed", "step.failed") for event in after):
            raise InvalidTransitionError(
                state.id, "retry", "cancelled and its cleanup steps have run", "use fork(after_step=...)"
            )
        return entries_until(events, state.event if delivered is None else delivered)
    raise InvalidTransitionError(state.id, "retry", state.status.value, "only a failed or cancelled run is retried")


def _kept_for_fork(events: list[Event], after_step: str | None) -> list[Event]:
    if after_step is None:
        return []
    replay = read_journal(events)
    named = [
        (position, recorded)
        for position, recorded in replay.recorded.items()
        if recorded.completed is not None and after_step in (position, recorded.name)
    ]
    if len(named) != 1:
        problem = "is no completed step of the run" if not named else "names several steps; give its key"
        raise InvalidOptionError("after_step", f"{after_step!r} {problem}; 'osp show' lists them")
    completed = named[0][1].completed
    assert completed is not None
    return entries_until(events, completed.number)


def delete(transaction: Transaction, key: int, run: str, who: Acting | None) -> None:
    """Remove a final run and its children.

    Raises:
        InvalidTransitionError: it, or a child of it, is not final.
        RunNotFoundError: somebody else removed it meanwhile.
    """
    transaction.check_reply(who)
    family = transaction.rows("family", key)
    if not family:
        raise RunNotFoundError(run)
    for _, run_id, ended_at in family:
        if ended_at is None:
            raise InvalidTransitionError(run_id, "delete", "not final", "cancel it first")
    for member, _, _ in family:
        _delete_rows(transaction, member)
    _leave_tombstone(transaction, len(family))
    transaction.note("run.delete", who, run, {"runs": len(family)}, by=operating_system_user())


def prune(transaction: Transaction, before: int, who: Acting | None) -> int:
    """Remove some of the final runs that ended before an instant; gives how many, 0 when there are none left."""
    removed = 0
    for key, _ in transaction.rows("prunable", before, _PRUNE_AT_ONCE):
        family = transaction.rows("family", key)
        if all(ended_at is not None for _, _, ended_at in family):
            for member, _, _ in family:
                _delete_rows(transaction, member)
            removed += len(family)
    if removed:
        _leave_tombstone(transaction, removed)
        transaction.note("runs.prune", who, None, {"runs": removed}, by=operating_system_user())
    return removed


def _delete_rows(transaction: Transaction, key: int) -> None:
    for query in ("delete_run", "delete_journal", "delete_requests", "delete_logs", "delete_hook"):
        transaction.connection.execute(QUERIES[query], (key,))


def _leave_tombstone(transaction: Transaction, removed: int) -> None:
    """Keep the highest journal id in use, so that no later row gets an id that others have seen."""
    number = transaction.next_tombstone()
    event = Event(
        number, transaction.now, "runs.deleted", value=encode({"runs": removed, "highestRun": transaction.highest_run})
    )
    transaction.connection.execute(QUERIES["delete_tombstones"])
    transaction.append_raw(0, event, checksum(0, event))


def touch(transaction: Transaction) -> None:
    """Write as much as a small run takes, to see whether it can be done, and take most of it back."""
    for value in ("." * _TOUCHED_CHARACTERS, str(transaction.now)):
        transaction.connection.execute(QUERIES["put_setting"], ("touched", value))


def backup(source: Path, target: Path) -> None:
    """Copy the database with SQLite's online backup; the copy is complete and consistent.

    Raises:
        ReadOnlyError: the target exists already or cannot be written.
    """
    if target.exists():
        raise ReadOnlyError(str(target), "it exists already")
    partial = target.with_name(target.name + ".part")
    partial.unlink(missing_ok=True)
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ReadOnlyError(str(target), error.strerror or str(error)) from None
    # Through the same SQLite library: another copy of it in this process would drop the owner's locks.
    with (
        translated(source),
        contextlib.closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)) as reading,
        contextlib.closing(apsw.Connection(str(partial))) as writing,
    ):
        copying = writing.backup("main", reading, "main")
        try:
            while not copying.done:
                copying.step(1_000)
        finally:
            with contextlib.suppress(apsw.Error):  # it tells once more what a step told
                copying.finish()
        writing.execute("PRAGMA journal_mode = DELETE")
    partial.rename(target)
    sync_folder(target.parent)


def tell_winner(transaction: Transaction, key: int, command: c.Vote | c.Respond) -> None:
    """Nothing waits for the answer: if somebody else's came first, say what became of the request."""
    kinds = ("approval",) if isinstance(command, c.Vote) else ("input", "attention")
    closed = [request for request in transaction.requests(key) if request.kind in kinds]
    if closed and not closed[-1].is_open:
        by = closer_of(closed[-1].status, [response["by"] for response in decode(closed[-1].responses)])
        raise RequestClosedError(transaction.state(key).id, closed[-1].id, closed[-1].status, by)


def save_copy(source: Path, target: Path) -> bool:
    """Make a database of its own of this machine's copy of a ledger, also of one that is gone; False if it is none."""
    if not source.exists():
        return False
    try:
        connection = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            is_one = is_copy(connection)
        finally:
            connection.close()
    except apsw.Error:
        return False  # whoever opens it says what is wrong
    if is_one:
        backup(source, target)
        make_independent(target)
    return is_one
