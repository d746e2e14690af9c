"""Version 1 becomes version 2 in one step or not at all, whoever dies on the way and however many start at once.

A case is one of: a kill before one of the statements of the opening, a kill after some work inside SQLite, six
processes that start at once on an old file, and code of version 1 on a file of version 2. There is one release so far:
other mixes of versions do not exist yet.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import apsw

from osprotocol import connect
from osprotocol._clock import SystemClock
from osprotocol._embedded import database
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.store import Store
from osprotocol._embedded.transaction import checksum
from osprotocol._lifecycle import commands as c
from osprotocol.errors import SchemaTooNewError
from tests.lab import parked_flows
from tests.lab.crowd import append, ended, start, wait_until
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.memory_disk import folder_in_memory
from tests.lifecycle.situations import SITUATIONS
from tests.store.stores import commit

STATEMENTS = 31
"""How many statements the opening of a file of version 1 has; a test counts them."""
_STARTERS = 6
_PATIENCE_S = 60.0
_OLD_SCHEMA = Path(__file__).parents[1] / "store" / "schema-1.sql"
_WAITING = "asks an approval"
_MOST_STEPS = 40
"""Calls of SQLite's progress handler, each after a few instructions, among which a kill is placed."""
_STEP = 20


def kind_of(number: int) -> tuple[str, int]:
    """What a case does, and where."""
    if number < 2:
        return ("starters", "older code")[number], 0
    if number < 2 + STATEMENTS:
        return "statement", (number - 2) * 7 % STATEMENTS
    kinds = ("instruction", "starters", "older code", "instruction")
    return kinds[number % len(kinds)], random.Random(f"migrations {number}").randrange(_MOST_STEPS)


def old_file(path: Path) -> None:
    """A file as version 1 left it: a run waits for an approval."""
    connection = apsw.Connection(str(path))
    connection.execute(_OLD_SCHEMA.read_text(encoding="utf-8"))
    connection.execute(f"PRAGMA application_id = {0x4F535052}; PRAGMA user_version = 1; PRAGMA journal_mode = WAL")
    story = SITUATIONS[_WAITING]()
    connection.execute(QUERIES["insert_run"], story.state._replace(owner=None, executing=False, ready_at=None)[:-1])
    for number, event in enumerate(story.events, 1):
        connection.execute(QUERIES["append"], (number, 1, *event, checksum(1, event)))
    for request in story.requests.values():
        connection.execute(QUERIES["put_request"], tuple(request))
    connection.close()
    path.chmod(0o600)


@functools.cache
def contents(version: int) -> str:
    """All that a whole file of that version says."""
    with folder_in_memory() as folder:
        path = folder / "runs.db"
        old_file(path)
        if version > 1:
            Store(path, SystemClock(), "off").close()
        return read(path)


def read(path: Path) -> str:
    """Schema, version and rows of the tables of version 1."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        found: list[Any] = [connection.execute(f"PRAGMA {name}").get for name in ("user_version", "application_id")]
        found += connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
        for table in ("runs", "journal", "requests"):
            found += connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
        found += connection.execute("PRAGMA integrity_check").fetchall()
        return repr(found)
    finally:
        connection.close()


def _watch_statements(see: Callable[[str], None]) -> None:
    """Be told of each statement before it is executed, on every connection that this process opens from now on."""

    def hook(connection: apsw.Connection) -> None:
        def trace(cursor: Any, sql: str, bindings: Any) -> bool:
            see(sql)
            return True

        connection.exec_trace = trace

    apsw.connection_hooks.append(hook)


def statements_of_migration() -> list[str]:
    """The statements of the opening of a file of version 1, in their order."""
    seen: list[str] = []
    _watch_statements(seen.append)
    try:
        with folder_in_memory() as folder:
            path = folder / "runs.db"
            old_file(path)
            seen.clear()
            Store(path, SystemClock(), "off").close()
    finally:
        apsw.connection_hooks.pop()
    return seen


def open_and_die_at_statement(path: str, number: int) -> None:
    """Open the file, and be killed before that statement."""
    seen: list[str] = []

    def see(sql: str) -> None:
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(sql)

    _watch_statements(see)
    Store(Path(path), SystemClock(), "off").close()


def open_and_die_at_instruction(path: str, number: int) -> None:
    """Open the file, and be killed after so much work inside SQLite."""
    left = [number]

    def work() -> bool:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    apsw.connection_hooks.append(lambda connection: connection.set_progress_handler(work, _STEP))
    Store(Path(path), SystemClock(), "off").close()


def open_with_others(path: str, number: int) -> None:
    """Open the file while somebody else writes, so that all have seen the old version, and work on it."""
    folder = Path(path).parent

    def see(sql: str) -> None:
        if sql.startswith("BEGIN IMMEDIATE") and not (folder / "free").exists():
            append(folder / "waiting", number)
        if "CREATE TABLE users" in sql:
            append(folder / "made", number)

    _watch_statements(see)

    async def work() -> None:
        async with connect(path, durability="off") as client:
            assert await (await client.create_run(parked_flows.quick).start()).result == 7
            append(folder / "worked", number)

    asyncio.run(work())


def case(number: int, tally: Tally) -> None:
    """One way to open an old file."""
    kind, at = kind_of(number)
    with folder_in_memory() as folder, ended() as alive:
        path = folder / "runs.db"
        old_file(path)
        if kind == "starters":
            _start_together(path, alive, tally)
        elif kind == "older code":
            _open_with_older_code(path)
        else:
            function = open_and_die_at_statement if kind == "statement" else open_and_die_at_instruction
            alive.append(start(function, str(path), at))
            alive[0].join()
            _judge_death(path, f"killed at {kind} {at}", alive[0].exitcode, tally)
    tally.mark(kind)


def _judge_death(path: Path, told: str, code: int | None, tally: Tally) -> None:
    if code not in (0, -signal.SIGKILL):
        raise Violation(f"{told}: the process ended with {code}")
    tally.count("kills", int(code != 0))
    found = read(path)
    if found not in (contents(1), contents(2)):
        raise Violation(f"{told}: the file is neither of version 1 nor of version 2")
    tally.mark("old after a kill" if found == contents(1) else "new after a kill", int(code != 0))
    _goes_on(path, told)


def _goes_on(path: Path, told: str) -> None:
    """The next process finds version 2 and the run, which can be approved."""
    store = Store(path, SystemClock(), "off")
    try:
        group = commit(store, lambda transaction: transaction.apply(1, c.Vote("ann", True)))
        state = store.load(1)
        if group.operations[0].error is not None or state is None or state.open_requests:
            raise Violation(f"{told}: the run that waited cannot be approved: {group.operations[0].error}")
        if store.rows("PRAGMA user_version") != [(database.SCHEMA_VERSION,)]:
            raise Violation(f"{told}: the next opening did not bring the file to version {database.SCHEMA_VERSION}")
    finally:
        store.close()


def _start_together(path: Path, alive: list[Any], tally: Tally) -> None:
    folder = path.parent
    other = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    other.execute("BEGIN IMMEDIATE")
    alive.extend(start(open_with_others, str(path), number) for number in range(_STARTERS))
    wait_until(lambda: len(_lines(folder / "waiting")) == _STARTERS, _PATIENCE_S, lambda: "not all have started")
    (folder / "free").touch()
    other.execute("ROLLBACK")
    other.close()
    for process in alive:
        process.join()
    made, worked = _lines(folder / "made"), _lines(folder / "worked")
    if len(made) != 1:
        raise Violation(f"{len(made)} of {_STARTERS} processes migrated the file")
    if len(worked) != _STARTERS:
        raise Violation(f"only {len(worked)} of {_STARTERS} processes that started at once could work")
    _goes_on(path, "after six started at once")
    tally.count("processes that started at once", _STARTERS)


def _open_with_older_code(path: Path) -> None:
    Store(path, SystemClock(), "off").close()
    before = hashlib.sha256(path.read_bytes()).digest()
    with mock.patch.object(database, "SCHEMA_VERSION", 1):
        try:
            Store(path, SystemClock(), "off").close()
        except SchemaTooNewError as error:
            if "upgrade" not in str(error):
                raise Violation(f"older code refuses without saying what to do: {error}") from error
        else:
            raise Violation("older code opened a newer file")
    if hashlib.sha256(path.read_bytes()).digest() != before:
        raise Violation("older code that refused a file has changed it")
    _goes_on(path, "after older code refused it")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


HARNESS = Harness(
    name="migrations",
    title="an old file becomes a new one, or stays old",
    case=case,
    full=2 + STATEMENTS + 200,
    small=10,
    quotas={"statement": STATEMENTS, "instruction": 80, "starters": 40, "older code": 40, "old after a kill": 50,
            "new after a kill": 3},
    small_marks=("statement", "starters", "older code", "old after a kill", "new after a kill"),
)  # fmt: skip

if __name__ == "__main__":
    main(HARNESS)
