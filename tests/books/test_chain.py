"""The chain of hashes: what somebody who can write the file does to the log is found."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from osprotocol._embedded.audit import AuditRecord, chained
from osprotocol._embedded.books import verify_audit
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.store import Store
from osprotocol.engine import Acting
from tests.books.opening import opened, tampering
from tests.store.stores import commit, open_store, starting

RECORDS = 6


async def written(tmp_path: Path) -> tuple[Path, tuple[int, str]]:
    """A log of so many records, and its head."""
    async with opened(tmp_path) as books:
        for number in range(RECORDS):
            await books.note("sign-in", f"person {number}", "session", {"n": number})
        assert await books.verify_audit() is None
        assert await books.verify_audit(books.audit_head()) is None
        return books._engine.store.path, books.audit_head()


COLUMNS = {
    "at": "at = at + 1",
    "by": "by = 'mallory'",
    "via": "via = 'local'",
    "action": "action = 'sign-out'",
    "run": "run = 'another'",
    "request": "request = 'another'",
    "detail": """detail = '{"n":9}'""",
    "hash": "hash = upper(hash)",
    "no text": "by = CAST(x'ff' AS TEXT)",
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("number", [1, 3, RECORDS])
async def test_an_edited_record_is_found(tmp_path: Path, number: int, column: str) -> None:
    """By its number, whatever was changed in it."""
    path, _ = await written(tmp_path)
    with tampering(path) as connection:
        connection.execute(f"UPDATE audit SET {COLUMNS[column]} WHERE id = ?", (number,))
    assert verify_audit(path) == number


@pytest.mark.parametrize("number", [1, 3, RECORDS - 1])
async def test_a_deleted_record_is_found(tmp_path: Path, number: int) -> None:
    """Also when those after it are given its number."""
    path, _ = await written(tmp_path)
    with tampering(path) as connection:
        connection.execute("DELETE FROM audit WHERE id = ?", (number,))
    assert verify_audit(path) == number
    with tampering(path) as connection:
        for later in range(number + 1, RECORDS + 1):
            connection.execute("UPDATE audit SET id = id - 1 WHERE id = ?", (later,))
    assert verify_audit(path) == number


async def test_records_that_changed_places_are_found(tmp_path: Path) -> None:
    """The first of them."""
    path, _ = await written(tmp_path)
    with tampering(path) as connection:
        connection.execute("UPDATE audit SET id = CASE id WHEN 2 THEN -4 ELSE -2 END WHERE id IN (2, 4)")
        connection.execute("UPDATE audit SET id = -id WHERE id < 0")
    assert verify_audit(path) == 2


async def test_an_inserted_record_is_found(tmp_path: Path) -> None:
    """One with a hash of its own making between two others."""
    path, _ = await written(tmp_path)
    with tampering(path) as connection:
        connection.execute("UPDATE audit SET id = -id - 1 WHERE id > 2")
        connection.execute("UPDATE audit SET id = -id WHERE id < 0")
        record = AuditRecord(0, "mallory", "session", "sign-in")
        before = str(connection.execute(QUERIES["audit_hash"], (2,)).get)
        connection.execute(QUERIES["add_audit"], (3, *record, chained(before, 3, record)))
    assert verify_audit(path) == 4


@pytest.mark.parametrize("left", [0, 1, RECORDS - 1])
async def test_a_log_that_was_cut_off_is_found_by_a_head_noted_elsewhere(tmp_path: Path, left: int) -> None:
    """By itself it looks right."""
    path, head = await written(tmp_path)
    with tampering(path) as connection:
        connection.execute("DELETE FROM audit WHERE id > ?", (left,))
    assert verify_audit(path) is None
    assert verify_audit(path, head) == RECORDS


async def test_a_log_that_was_made_anew_is_found_by_a_head_noted_elsewhere(tmp_path: Path) -> None:
    """Every hash in it is right, and the newest is not the one that was noted."""
    path, head = await written(tmp_path)
    with tampering(path) as connection:
        rows = connection.execute(QUERIES["whole_audit"]).fetchall()
        connection.execute("DELETE FROM audit")
        before = ""
        for number, (_, *columns, _) in enumerate(rows, 1):
            record = AuditRecord._make(columns)._replace(by="mallory")
            before = chained(before, number, record)
            connection.execute(QUERIES["add_audit"], (number, *record, before))
    assert verify_audit(path) is None
    assert verify_audit(path, head) == RECORDS


async def test_an_older_head_holds_while_the_log_grows(tmp_path: Path) -> None:
    """Number and hash stay those of that record."""
    path, head = await written(tmp_path)
    async with opened(tmp_path) as books:
        await books.note("sign-in", "ann", "session")
        assert await books.verify_audit(head) is None
        assert await books.verify_audit((0, "")) is None
    assert verify_audit(path, (head[0], "0" * 64)) == head[0]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET by = 'mallory'",
        "UPDATE audit SET id = id + 100",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE id = 6",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE id = 2",
        "INSERT INTO audit SELECT -1, at, by, via, action, run, request, detail, hash FROM audit WHERE id = 2",
    ],
)
async def test_the_database_refuses_to_change_a_record(tmp_path: Path, change: str) -> None:
    """As long as the triggers are there."""
    path, _ = await written(tmp_path)
    connection = apsw.Connection(str(path))
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        connection.execute(change)
    connection.close()
    assert verify_audit(path) is None


def noting(person: str) -> Callable[..., None]:
    return lambda transaction: transaction.note("sign-in", Acting(person, "session"))


def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    """There is nothing to be wrong."""
    open_store(tmp_path / "runs.db").close()
    assert verify_audit(tmp_path / "runs.db") is None


def test_several_records_of_one_commit_are_chained_in_their_order(tmp_path: Path) -> None:
    """A refused operation between them leaves no gap."""

    def refused(transaction: object) -> None:
        noting("nobody")(transaction)
        raise ValueError("no")

    store = open_store(tmp_path / "runs.db")
    commit(store, noting("a"), starting("run1"), refused, noting("b"))
    commit(store, noting("c"))
    assert [(row[0], row[2]) for row in store.rows("whole_audit")] == [(1, "a"), (2, "b"), (3, "c")]
    store.close()
    assert verify_audit(tmp_path / "runs.db") is None


def _write_many(path: Path, person: str, failed: list[BaseException]) -> None:
    try:
        store: Store = open_store(path)
        for _ in range(40):
            group = commit(store, noting(person), noting(person))
            failed.extend(operation.error for operation in group.operations if operation.error is not None)
        store.close()
    except BaseException as error:
        failed.append(error)
        raise


def test_two_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    """Each record covers the one before it, whoever wrote that."""
    path = tmp_path / "runs.db"
    open_store(path).close()
    failed: list[BaseException] = []
    threads = [threading.Thread(target=_write_many, args=(path, person, failed)) for person in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT count(*), max(id) FROM audit").fetchall() == [(160, 160)]
    connection.close()
    assert verify_audit(path) is None


def test_two_processes_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    """As two servers of one database do."""
    path = tmp_path / "runs.db"
    open_store(path).close()
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_write_many, args=(path, person, [])) for person in ("ann", "bob")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT count(*) FROM audit").get == 160
    connection.close()
    assert verify_audit(path) is None
