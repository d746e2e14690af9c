"""What must hold in the database at every committed instant, read with plain SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

# Every run is exactly one of: final; to be claimed; held by a worker; waiting on a time, a person, a pause or a child.
_LIMBO = """
SELECT id, status FROM runs r WHERE ended_at IS NULL AND ready_at IS NULL
AND NOT (owner IS NOT NULL AND owner IN (SELECT key FROM workers WHERE status = 'alive'))
AND NOT (owner IS NULL AND (due_at IS NOT NULL OR open_requests > 0 OR pause_settled_at IS NOT NULL
    OR EXISTS (SELECT 1 FROM runs child WHERE child.parent = r.key AND child.ended_at IS NULL)))
"""
_RUNS = "SELECT key, id, status, event, open_requests FROM runs"
_EVENTS = "SELECT number, type, status FROM journal WHERE run = ? ORDER BY id"
_CLOSED = "SELECT json_extract(value, '$.requestId'), count(*) FROM journal WHERE type = 'request.closed' GROUP BY 1"
_REOPENED = """
SELECT count(*) FROM journal WHERE type = 'request.reopened' AND json_extract(value, '$.requestId') = ?
"""
_OPEN = "SELECT run, count(*) FROM requests WHERE status = 'open' GROUP BY run"
_STANDING = """
SELECT key, id, workflow, status, epoch, owner, executing, ready_at, due_at, wake, deaths, children_moving,
  children_waiting, open_requests FROM runs ORDER BY key
"""
_TOLD = "SELECT run, number, type, position, value FROM journal ORDER BY id"
_FINAL = ("completed", "failed", "cancelled")


def problems(path: Path) -> list[str]:
    """Sentences about what is wrong in the database; none if all is well."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return problems_in(connection)
    finally:
        connection.close()


def problems_in(connection: apsw.Connection) -> list[str]:
    """The same, read with a connection that is open."""
    return list(_problems(connection))


def _problems(connection: apsw.Connection) -> Iterator[str]:
    for name, status in connection.execute(_LIMBO):
        yield f"run {name} ({status}) waits for nothing that anybody could see"
    opened: list[tuple[Any, ...]] = connection.execute(_OPEN).fetchall()
    counted: dict[Any, Any] = dict(opened)
    runs: list[tuple[Any, ...]] = connection.execute(_RUNS).fetchall()
    for key, name, status, last, open_requests in runs:
        events: list[tuple[Any, ...]] = connection.execute(_EVENTS, (key,)).fetchall()
        numbers = [number for number, _, _ in events]
        # A row follows its journal: what only adds a record leaves the row alone.
        if numbers != list(range(1, len(numbers) + 1)) or last > len(numbers):
            yield f"run {name} has events {numbers}, its row says {last}"
        told = [one for _, _, one in events if one is not None]
        if told[-1:] != [status]:
            yield f"run {name} is {status}, its events say {told}"
        if any(one in _FINAL for one in told[:-1]):
            yield f"run {name} went on after it was final: {told}"
        if counted.get(key, 0) != open_requests:
            yield f"run {name} has {counted.get(key, 0)} open requests, its row says {open_requests}"
    closed: list[tuple[Any, ...]] = connection.execute(_CLOSED).fetchall()
    for name, closings in closed:
        if closings > 1 and closings > 1 + int(connection.execute(_REOPENED, (name,)).get):
            yield f"request {name} was decided {closings} times"


def status_of(path: Path, run_id: str) -> str:
    """The status of a run in the file."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return str(connection.execute("SELECT status FROM runs WHERE id = ?", (run_id,)).get)
    finally:
        connection.close()


def account(path: Path) -> list[tuple[Any, ...]]:
    """Where every run stands and what its journal tells, for a message about one that should not stand there."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return [*connection.execute(_STANDING).fetchall(), *connection.execute(_TOLD).fetchall()]
    finally:
        connection.close()
