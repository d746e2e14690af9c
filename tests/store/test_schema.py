"""The schema defends itself, and every query finds its rows by an index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import apsw
import pytest

from osprotocol._embedded import database
from osprotocol._embedded.queries import QUERIES, read_sql
from osprotocol._embedded.transaction import Transaction
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


def plan(query: str) -> list[str]:
    connection = apsw.Connection(":memory:")
    connection.execute(read_sql("schema.sql"))
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
    connection = apsw.Connection(":memory:")
    connection.execute(read_sql("schema.sql"))
    for table, columns in (("runs", RUN_COLUMNS), ("requests", REQUEST_COLUMNS)):
        stored = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        assert stored == set(columns)


def test_every_table_is_strict() -> None:
    """A text in a column of numbers is refused."""
    connection = apsw.Connection(":memory:")
    connection.execute(read_sql("schema.sql"))
    assert {
        row[1]: row[5] for row in connection.execute("PRAGMA table_list") if not row[1].startswith("sqlite_")
    } == dict.fromkeys(("runs", "journal", "requests", "logs", "hooks", "workers"), 1)


def test_a_migrated_schema_is_the_fresh_schema(tmp_path: Path) -> None:
    """From every older version, whose schema is kept beside this test."""
    expected = schema_of(fresh(tmp_path / "fresh.db"))
    assert set(database.MIGRATIONS) == set(range(2, database.SCHEMA_VERSION + 1))
    for version in range(1, database.SCHEMA_VERSION):
        path = tmp_path / f"{version}.db"
        connection = apsw.Connection(str(path))
        connection.execute(Path(__file__).with_name(f"schema-{version}.sql").read_text(encoding="utf-8"))
        connection.execute(f"PRAGMA application_id = {0x4F535052}; PRAGMA user_version = {version}")
        database.migrate(connection, path)
        assert schema_of(connection) == expected


def test_a_migration_runs_once_and_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next version's SQL is applied on the next opening."""
    path = tmp_path / "runs.db"
    store = open_store(path)
    commit(store, starting("run1"))
    store.close()
    monkeypatch.setattr(database, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(database.MIGRATIONS, 2, "ALTER TABLE workers ADD COLUMN note TEXT")
    for _ in range(2):
        connection = database.open_connection(path, "off")
        database.migrate(connection, path)
        assert connection.execute("PRAGMA user_version").get == 2
        assert connection.execute("SELECT count(*) FROM runs").get == 1
        connection.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one transaction."""
    path = tmp_path / "runs.db"
    connection = fresh(path)
    before = schema_of(connection)
    monkeypatch.setattr(database, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(database.MIGRATIONS, 2, "ALTER TABLE workers ADD COLUMN note TEXT; SELECT nothing FROM nowhere")
    with pytest.raises(StoreError):
        database.migrate(connection, path)
    assert schema_of(connection) == before
    assert connection.execute("PRAGMA user_version").get == 1


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """With both versions and what to do; the file is not touched."""
    path = tmp_path / "runs.db"
    connection = fresh(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaTooNewError, match=r"version 99.*up to 1; upgrade") as caught:
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
