"""What a database says, read with plain SQL: all of it as one digest, and the facts that callers had been told."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import apsw

_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"

FactKey = tuple[Any, ...]


def digest(connection: apsw.Connection) -> str:
    """A number that two databases share only if they hold the same rows under the same schema."""
    connection.execute("BEGIN")
    try:
        seen = hashlib.blake2b(digest_size=16)
        for pragma in ("user_version", "application_id"):
            seen.update(repr(connection.execute(f"PRAGMA {pragma}").get).encode())
        seen.update(
            repr(connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()).encode()
        )
        for (table,) in connection.execute(_TABLES).fetchall():
            rows = connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid').fetchall()
            seen.update(repr((table, rows)).encode("utf-8", "surrogatepass"))
        return seen.hexdigest()
    finally:
        connection.execute("COMMIT")


def facts(connection: apsw.Connection) -> set[FactKey]:
    """Everything that somebody can have been told and that is true by this database.

    ``run`` (id), ``event`` (run, number, type), ``step`` (run, position), ``response`` (request, person),
    ``ended`` (run, status), ``cancel`` (run), ``pause`` and ``resume`` (run, how many so far), ``deleted`` (run),
    ``user`` (name).
    """
    if connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'journal'").get == 0:
        return set()
    found: set[FactKey] = set()
    runs: list[tuple[Any, ...]] = connection.execute("SELECT key, id, cancel, status, ended_at FROM runs").fetchall()
    ids = {row[0]: row[1] for row in runs}
    for _, run, cancel, status, ended_at in runs:
        found.add(("run", run))
        if cancel != "none" or status == "cancelled":
            found.add(("cancel", run))
        if ended_at is not None:
            found.add(("ended", run, status))
    counted: dict[tuple[str, str], int] = {}
    rows = connection.execute("SELECT run, number, type, position FROM journal ORDER BY id").fetchall()
    for key, number, type_, position in rows:
        run = ids.get(key, "")
        found.add(("event", run, number, type_))
        if type_ in ("step.completed", "step.failed"):
            found.add(("step", run, position))
        elif type_ in ("run.paused", "run.resumed"):
            verb = "pause" if type_ == "run.paused" else "resume"
            counted[verb, run] = counted.get((verb, run), 0) + 1
            found.add((verb, run, counted[verb, run]))
    answered: list[tuple[Any, ...]] = connection.execute("SELECT id, responses FROM requests").fetchall()
    for request, responses in answered:
        found.update(("response", request, one["by"].casefold()) for one in json.loads(responses))
    if connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'audit'").get:
        rows = connection.execute("SELECT run FROM audit WHERE action = 'run.delete'").fetchall()
        found.update(("deleted", run) for (run,) in rows)
        found.update(("user", name) for (name,) in connection.execute("SELECT name FROM users").fetchall())
    return found


def run_of(key: FactKey) -> str | None:
    """The run that a fact is about."""
    if key[0] in ("deleted", "user", "backup"):
        return None
    return str(key[1]).rpartition("-")[0] if key[0] == "response" else str(key[1])
