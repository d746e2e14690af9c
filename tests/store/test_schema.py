"""The schema defends itself, and every query finds its rows by an index."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from osprotocol._embedded import database
from osprotocol._embedded.queries import QUERIES, read_sql
from osprotocol._embedded.transaction import Transaction, checksum
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.state import REQUEST_COLUMNS, RUN_COLUMNS
from osprotocol.errors import SchemaTooNewError, StoreError
from tests.lifecycle.situations import SITUATIONS
from tests.store.stores import commit, open_store, starting

# What may look at every row, and why that is fine.
ALLOWED_SCANS = {
    "orphans": "only the index of what is owned, which is short",
    "living_workers": "a table of processes, cleaned at each join",
    "all_workers": "a table of processes, with a limit",
    "forget_workers": "a table of processes, at each join",
    "prunable": "retention, asked for by a person",
    "newest_audit": "from the end, with a limit",
    "newest_events": "from the end, with a limit",
    "newest_waits": "from the end, with a limit; where nobody was ever asked anything the table is empty",
    "count_runs": "counting everything, in a thread and for at most one part in twenty of the time",
    "count_failed": "counting everything, in a thread and for at most one part in twenty of the time",
    "count_requests": "only the index of the open ones",
    "whole_audit": "verifying all of it, in a thread",
    "all_users": "people of one server",
    "all_tokens": "tokens of one server",
    "close_sessions": "sessions that have not expired",
    "forget_sessions": "sessions that have not expired, at each sign-in",
    "close_links": "links that have not expired",
    "forget_links": "links that have not expired, at each new link",
}
# Tables of a fixed, small size in a plan: constants and the recursive family itself.
SMALL = {"CONSTANT", "f", "family"}


def schema_of(connection: apsw.Connection) -> list[Any]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def fresh(path: Path) -> apsw.Connection:
    database.prepare_folder(path)
    connection = database.open_connection(path, "off")
    database.migrate(connection, path)
    return connection


def in_memory() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(read_sql("schema.sql") + read_sql("books.sql"))
    return connection


def plan(query: str) -> list[str]:
    connection = in_memory()
    numbered = [int(number) for number in re.findall(r"\?(\d)", query)]
    arguments = [None] * (max(numbered) if numbered else query.count("?"))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", arguments)]


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_finds_its_rows_by_an_index(name: str) -> None:
    """No named query scans a table that grows, except those that are named with a reason."""
    scanned = [line.split()[1] for line in plan(QUERIES[name]) if line.startswith("SCAN")]
    assert bool(set(scanned) - SMALL) == (name in ALLOWED_SCANS), plan(QUERIES[name])


@pytest.mark.parametrize(
    "name", ["ready_runs", "due_runs", "events_since", "events_of_run", "open_requests", "newest_logs"]
)
def test_a_hot_query_sorts_nothing(name: str) -> None:
    """Its index has the order already."""
    assert not [line for line in plan(QUERIES[name]) if "TEMP B-TREE" in line]


def test_every_query_is_used() -> None:
    """A query that nothing names is dead."""
    source = Path(database.__file__).parent
    code = "".join(path.read_text(encoding="utf-8") for path in source.glob("*.py"))
    assert [name for name in QUERIES if f'"{name}"' not in code] == []


def test_the_columns_are_the_fields_of_the_state() -> None:
    """Rows and state are the same by name and order."""
    connection = in_memory()
    for table, columns in (("runs", RUN_COLUMNS), ("requests", REQUEST_COLUMNS)):
        stored = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        assert stored == set(columns)


def test_every_table_is_strict() -> None:
    """A text in a column of numbers is refused."""
    tables = [row for row in in_memory().execute("PRAGMA table_list") if not row[1].startswith("sqlite_")]
    runs = ("runs", "journal", "requests", "logs", "hooks", "workers")
    books = ("users", "tokens", "sessions", "links", "replies", "audit", "settings")
    assert {row[1]: row[5] for row in tables} == dict.fromkeys((*runs, *books), 1)


def test_a_migrated_schema_is_the_fresh_schema(tmp_path: Path) -> None:
    """From every older version, whose schema is kept beside this test."""
    expected = schema_of(fresh(tmp_path / "fresh.db"))
    assert set(database.MIGRATIONS) == set(range(2, database.SCHEMA_VERSION + 1))
    for version in range(1, database.SCHEMA_VERSION):
        path = tmp_path / f"{version}.db"
        connection = apsw.Connection(str(path))
        kept = Path(__file__).with_name(f"schema-{version}.sql")
        connection.execute(kept.read_text(encoding="utf-8"))
        connection.execute(f"PRAGMA application_id = {0x4F535052}; PRAGMA user_version = {version}")
        database.migrate(connection, path)
        assert schema_of(connection) == expected


def version_1(path: Path) -> apsw.Connection:
    """A database as version 1 made it."""
    connection = apsw.Connection(str(path))
    connection.execute(Path(__file__).with_name("schema-1.sql").read_text(encoding="utf-8"))
    connection.execute(f"PRAGMA application_id = {0x4F535052}; PRAGMA user_version = 1")
    return connection


def test_a_file_of_version_1_goes_on_with_its_runs(tmp_path: Path) -> None:
    """They are there as they were, can be changed, and what people do is written down from now on."""
    path = tmp_path / "runs.db"
    old = version_1(path)
    story = SITUATIONS["asks an approval"]()
    old.execute(QUERIES["insert_run"], story.state._replace(owner=None, executing=False, ready_at=None)[:-1])
    for number, event in enumerate(story.events, 1):
        old.execute(QUERIES["append"], (number, 1, *event, checksum(1, event)))
    for request in story.requests.values():
        old.execute(QUERIES["put_request"], tuple(request))
    old.close()
    for _ in range(2):
        store = open_store(path)
        before = store.load(1)
        assert before is not None
        assert before.requests == story.state.requests
        store.close()
    store = open_store(path)
    group = commit(store, lambda transaction: transaction.apply(1, c.Vote("ann", True)))
    assert group.operations[0].error is None
    after = store.load(1)
    assert after is not None
    assert after.open_requests == 0
    assert [row[2] for row in store.rows("whole_audit")] == ["ann"]
    assert store.rows("PRAGMA user_version") == [(database.SCHEMA_VERSION,)]
    store.close()


def test_two_that_open_a_file_of_version_1_at_once_both_succeed(tmp_path: Path) -> None:
    """One migrates, the other waits for it and finds it done."""
    path = tmp_path / "runs.db"
    version_1(path).close()
    outcomes: list[object] = []

    def migrate() -> None:
        try:
            open_store(path).close()
            outcomes.append("open")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
            outcomes.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["open"] * 4


def test_a_migration_runs_once_and_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next version's SQL is applied on the next opening."""
    path, following = tmp_path / "runs.db", database.SCHEMA_VERSION + 1
    store = open_store(path)
    commit(store, starting("run1"))
    store.close()
    monkeypatch.setattr(database, "SCHEMA_VERSION", following)
    monkeypatch.setitem(database.MIGRATIONS, following, "ALTER TABLE workers ADD COLUMN note TEXT")
    for _ in range(2):
        connection = database.open_connection(path, "off")
        database.migrate(connection, path)
        assert connection.execute("PRAGMA user_version").get == following
        assert connection.execute("SELECT count(*) FROM runs").get == 1
        connection.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one transaction."""
    path, now = tmp_path / "runs.db", database.SCHEMA_VERSION
    connection = fresh(path)
    before = schema_of(connection)
    monkeypatch.setattr(database, "SCHEMA_VERSION", now + 1)
    broken = "ALTER TABLE workers ADD COLUMN note TEXT; SELECT nothing FROM nowhere"
    monkeypatch.setitem(database.MIGRATIONS, now + 1, broken)
    with pytest.raises(StoreError):
        database.migrate(connection, path)
    assert schema_of(connection) == before
    assert connection.execute("PRAGMA user_version").get == now


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """With both versions and what to do; the file is not touched."""
    path = tmp_path / "runs.db"
    connection = fresh(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaTooNewError, match=r"version 99.*up to 2; upgrade") as caught:
        open_store(path)
    assert (caught.value.found, caught.value.known) == (99, database.SCHEMA_VERSION)


@pytest.mark.parametrize(
    "change",
    [
        "status = 'done'",
        "status = 'completed'",
        "ended_at = 1",
        "executing = 1",
        "executing = 2",
        "event = 0",
        "attempt = -1",
        "cancel = 'maybe'",
        "pause_settled_at = 1",
        "ready_at = 1, owner = 1",
        "open_requests = -1",
        "children_moving = -1",
        "deaths = -1",
        "paused_us = -1",
        "id = ''",
        "workflow = ''",
        "attempt = 'two'",
        "status = NULL",
        "status = 'failed', ended_at = 1, ready_at = NULL, open_requests = 1",
    ],
)
def test_an_impossible_run_is_refused(tmp_path: Path, change: str) -> None:
    """Whatever writes the row."""
    store = open_store(tmp_path / "runs.db")
    commit(store, starting("run1"))
    store.close()
    connection = apsw.Connection(str(tmp_path / "runs.db"))
    with pytest.raises(apsw.ConstraintError):
        connection.execute(f"UPDATE runs SET {change}")
    connection.close()


@pytest.mark.parametrize(
    "change",
    ["kind = 'poll'", "status = 'approved'", "closed_at = 1", "revision = 0", "required = 0", "on_reject = 'x'"],
)
def test_an_impossible_request_is_refused(tmp_path: Path, change: str) -> None:
    """An open request is not closed, a closed one is."""
    connection = fresh(tmp_path / "runs.db")
    request = SITUATIONS["asks an approval"]().request
    connection.execute(QUERIES["put_request"], tuple(request))
    with pytest.raises(apsw.ConstraintError):
        connection.execute(f"UPDATE requests SET {change}")
    connection.close()


def test_an_event_number_is_given_once(tmp_path: Path) -> None:
    """Two writers cannot both have the next number of a run."""
    store = open_store(tmp_path / "runs.db")
    commit(store, starting("run1"))
    store.close()
    connection = apsw.Connection(str(tmp_path / "runs.db"))
    with pytest.raises(apsw.ConstraintError):
        connection.execute(QUERIES["append"], (9, 1, 1, 0, "run.started", None, None, None, None, None, None, 0))
    connection.close()


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_can_be_stored_and_read_back(tmp_path: Path, situation: str) -> None:
    """What the pure core makes passes every check of the schema."""
    connection = fresh(tmp_path / "runs.db")
    story = SITUATIONS[situation]()
    if story.state.owner is not None:
        connection.execute(QUERIES["add_worker"], ("w", "w", 0, 0, "[]"))
    connection.execute("PRAGMA foreign_keys = 0")
    connection.execute(QUERIES["insert_run"], story.state[:-1])
    for request in story.requests.values():
        connection.execute(QUERIES["put_request"], tuple(request))
    store = open_store(tmp_path / "runs.db")
    assert store.load(1) == story.state
    store.close()
    connection.close()


def test_an_operation_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    """The others of its group are committed."""

    def refused(transaction: Transaction) -> None:
        starting("run2")(transaction)
        raise ValueError("no")

    store = open_store(tmp_path / "runs.db")
    group = commit(store, starting("run1"), refused, starting("run3"))
    assert [type(operation.error) for operation in group.operations] == [type(None), ValueError, type(None)]
    assert [row[0] for row in store.rows("SELECT id FROM runs ORDER BY key")] == ["run1", "run3"]
    store.close()
