"""Questions over many rows: lists, inbox, events, logs, steps. Every name in the SQL is fixed, every value is bound."""

from __future__ import annotations

from typing import Any

from osprotocol import _limits
from osprotocol._clock import from_datetime, to_datetime
from osprotocol._embedded.queries import runs_now
from osprotocol._embedded.replay import BEGINNINGS, CANCEL, COMPLETIONS, forgotten_by
from osprotocol._embedded.store import Store
from osprotocol._json import decode, reads_stored
from osprotocol._lifecycle.people import identity
from osprotocol._lifecycle.snapshot import request_of, waiting_on
from osprotocol._lifecycle.state import REQUEST_COLUMNS, Event, RequestState, RunState
from osprotocol.engine import Filter, RequestFilter
from osprotocol.errors import InvalidOptionError
from osprotocol.protocol import events as wire
from osprotocol.protocol.request import Request
from osprotocol.protocol.run import ErrorInfo, Waiting

_RUNS = runs_now("r")
_REQUESTS = ", ".join(f"q.{column}" for column in REQUEST_COLUMNS)


def read_cursor(cursor: str | None) -> int | None:
    """The row that a cursor names.

    Raises:
        InvalidOptionError: it is none that a page gave.
    """
    if cursor is None:
        return None
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise InvalidOptionError("cursor", f"{cursor[:40]!r} is none that a page gave")
    return int(cursor)


def select_runs(filter: Filter, limit: int, cursor: int | None) -> tuple[str, list[Any]]:
    """SQL and values for a page of runs, newest first."""
    where, values = _where(filter)
    if cursor is not None:
        where.append("r.key < ?")
        values.append(cursor)
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    # Only fixed text is joined here; what a caller gives is in `values`.
    return f"SELECT {_RUNS} FROM runs r {condition} ORDER BY r.key DESC LIMIT {limit + 1}", values  # noqa: S608


def _where(filter: Filter) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    if filter.status:
        where.append(f"r.status IN ({', '.join('?' * len(filter.status))})")
        values += [status.value for status in filter.status]
    if filter.workflow is not None:
        where.append("r.workflow = ?")
        values.append(filter.workflow)
    if len(filter.labels) > _limits.LABELS_PER_RUN:
        raise InvalidOptionError("labels", f"no run has more than LABELS_PER_RUN = {_limits.LABELS_PER_RUN} of them")
    for name, value in filter.labels.items():
        where.append("EXISTS (SELECT 1 FROM json_each(r.labels) l WHERE l.key = ? AND l.value = ?)")
        values += [name, value]
    if filter.text:
        where.append(
            "instr(lower(r.id || ' ' || r.workflow || ' ' || ifnull(r.progress_message, '') || ' ' || "
            "ifnull(r.error, '') || ' ' || r.labels), lower(?)) > 0"
        )
        values.append(filter.text)
    for bound, sign in ((filter.started_after, ">="), (filter.started_before, "<")):
        if bound is not None:
            where.append(f"r.created_at {sign} ?")
            values.append(_instant(bound))
    if filter.parent_id is not None:
        where.append("r.parent = (SELECT key FROM runs WHERE id = ?)")
        values.append(filter.parent_id)
    return where, values


def _instant(moment: Any) -> int:
    try:
        return from_datetime(moment)
    except ValueError as error:
        raise InvalidOptionError("started_after or started_before", str(error)) from None


def requests_page(store: Store, filter: RequestFilter, limit: int, cursor: int | None) -> list[Request]:
    """Requests, oldest first, one more than `limit` if there are more."""
    where: list[str] = []
    values: list[Any] = []
    if filter.open is not None:
        where.append("q.status = 'open'" if filter.open else "q.status <> 'open'")
    if filter.kind is not None:
        where.append("q.kind = ?")
        values.append(filter.kind)
    if filter.run_id is not None:
        where.append("r.id = ?")
        values.append(filter.run_id)
    after = 0 if cursor is None else cursor
    found: list[Request] = []
    while len(found) <= limit:
        condition = " AND ".join(["q.key > ?", *where])
        sql = (
            f"SELECT {_REQUESTS}, r.id, r.workflow FROM requests q JOIN runs r ON r.key = q.run "  # noqa: S608 - fixed
            f"WHERE {condition} ORDER BY q.key LIMIT {limit + 1}"
        )
        rows = store.rows(sql, [after, *values])
        for *columns, run_id, workflow in rows:
            state = RequestState._make(columns)
            if filter.person is None or _may_act(state, filter.person):
                found.append(request_of(state, run_id, workflow))
        if len(rows) <= limit:
            break
        after = rows[-1][0]
    return found[: limit + 1]


def waiting_below(store: Store, state: RunState) -> tuple[Waiting, ...]:
    """What the run's children, and theirs, wait for; a pause that they only follow is the run's own."""
    found: list[Waiting] = []
    for row in store.rows("waiting_children", (state.key,)) if state.children_waiting else []:
        child = store.with_requests(row)
        follows = child.pause_by == f"run:{state.id}"
        found += [
            wait.model_copy(update={"run_id": child.id})
            for wait in waiting_on(child)
            if wait.kind != "paused" or not follows
        ]
        found += waiting_below(store, child)
    return tuple(found)


@reads_stored
def _may_act(state: RequestState, person: str) -> bool:
    approvers = decode(state.approvers)
    return not approvers or identity(person) in {identity(name) for name in approvers}


def request_key(store: Store, request_id: str) -> int:
    """The row of a request, for a cursor."""
    return int(store.rows("SELECT key FROM requests WHERE id = ?", (request_id,))[0][0])


@reads_stored
def wire_event(run_id: str, cursor: int, event: Event) -> wire.Event:
    """A journal record as it goes out."""
    data = decode(event.value)
    if event.type in ("step.completed", "run.completed"):
        data = {"result": data}
    elif event.type == "run.started":
        data = {"input": data}
    if event.started_at is not None:
        data = {**(data or {}), "startedAt": wire_instant(event.started_at)}
    return wire.Event(
        run_id=run_id,
        number=event.number,
        cursor=cursor,
        type=event.type,
        at=to_datetime(event.at),
        status=event.status,
        key=event.position,
        name=event.name,
        data=data,
    )


def wire_instant(instant: int) -> str:
    """An instant inside an event's data."""
    from osprotocol._clock import to_iso

    return to_iso(instant)


@reads_stored
def log_line(row: tuple[Any, ...]) -> wire.LogLine:
    """A row of ``logs`` as it goes out."""
    number, at, level, message, attempt, step, fields = row
    return wire.LogLine(
        number=number,
        at=to_datetime(at),
        level=level,
        message=message,
        attempt=attempt,
        step=step,
        fields=decode(fields) or {},
    )


@reads_stored
def step_records(events: list[Event]) -> list[wire.StepRecord]:
    """The operations that a run's journal holds, in the order in which they began."""
    records: dict[str, wire.StepRecord] = {}
    for event in events:
        _add_record(records, event)
    return list(records.values())


def _add_record(records: dict[str, wire.StepRecord], event: Event) -> None:
    """What an event tells of an operation."""
    if event.type == "run.retrying":
        for gone in forgotten_by(event):
            records.pop(gone, None)
    position = event.position
    if position is None or event.type == CANCEL or event.type not in BEGINNINGS | COMPLETIONS:
        return
    known = records.get(position)
    kind = event.type.partition(".")[0]
    if event.type == "value.recorded":
        return
    began = event.started_at or event.at
    attempts = known.attempts if known is not None else 1
    record = wire.StepRecord(
        key=position,
        kind=known.kind if known is not None else kind,
        name=event.name or "",
        status="running",
        attempts=attempts + 1 if event.type == "step.retrying" else attempts,
        started_at=known.started_at if known is not None else to_datetime(began),
    )
    if event.type in COMPLETIONS:
        record = _ended(record, event)
    records[position] = record


def _ended(record: wire.StepRecord, event: Event) -> wire.StepRecord:
    data = decode(event.value)
    failed = event.type == "step.failed" or (event.type == "child.completed" and data["status"] != "completed")
    error = None
    if failed:
        info = data if event.type == "step.failed" else (data.get("error") or {"type": "", "message": data["status"]})
        error = ErrorInfo(type=info["type"], message=info["message"], code=info.get("code"))
    attempts = data.get("attempts", record.attempts) if event.type == "step.failed" else record.attempts
    return record.model_copy(
        update={
            "status": "failed" if failed else "completed",
            "ended_at": to_datetime(event.at),
            "result": None if failed else (data.get("result") if event.type == "child.completed" else data),
            "error": error,
            "attempts": attempts,
        }
    )
