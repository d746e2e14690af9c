"""`osp doctor` names what is wrong, also where nothing else works."""

import sqlite3
from pathlib import Path

from tests.cli.conftest import Osp


def levels(osp: Osp, *words: str) -> dict[str, str]:
    return {finding["check"]: finding["level"] for finding in osp("doctor", "--json", *words).lines}


def test_a_healthy_database(osp: Osp) -> None:
    """Nothing is bad, exit code 0."""
    osp("run", "flow.py:echo")
    assert osp("doctor").code == 0
    assert set(levels(osp).values()) <= {"good", "note"}


def test_no_database_is_worth_a_note(osp: Osp, folder: Path) -> None:
    """And none is made."""
    assert osp("doctor").code == 0
    assert levels(osp)["location"] == "note"
    assert not (folder / ".osp").exists()


def test_a_run_that_nobody_works_on_is_stuck(osp: Osp) -> None:
    """Exit code 1."""
    osp("run", "flow.py:echo", "--detach")
    assert osp("doctor").code == 1
    assert levels(osp)["stuck"] == "bad"


def test_open_requests_are_counted(osp: Osp, waiting: str) -> None:
    """By kind."""
    assert "1 approval, 0 input, 0 attention" in osp("doctor").out


def test_a_file_that_is_no_database(osp: Osp, folder: Path) -> None:
    """It is named as such, not with a traceback."""
    (folder / "text.db").write_text("no database " * 500, encoding="utf-8")
    assert osp("doctor", "--db", "text.db").code == 1
    assert "bad" in levels(osp, "--db", "text.db").values()


def test_another_programs_database(osp: Osp, folder: Path) -> None:
    """It is left as it is."""
    with sqlite3.connect(folder / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    before = (folder / "other.db").read_bytes()
    assert levels(osp, "--db", "other.db")["schema"] == "bad"
    assert (folder / "other.db").read_bytes() == before


def test_an_older_schema_is_left_as_it_is(osp: Osp, folder: Path) -> None:
    """Looking brings nothing up to date; the next start does, and says so."""
    kept = Path(__file__).resolve().parents[1] / "store" / "schema-1.sql"
    with sqlite3.connect(folder / "old.db") as old:
        old.executescript(kept.read_text(encoding="utf-8"))
        old.executescript(f"PRAGMA application_id = {0x4F535052}; PRAGMA user_version = 1")
    old.close()
    before = (folder / "old.db").read_bytes()
    said = osp("doctor", "--db", "old.db")
    assert said.code == 0
    assert "schema version 1; the next start brings it to 2" in said.out
    assert (folder / "old.db").read_bytes() == before
    assert osp("list", "--db", "old.db").code == 0
    assert levels(osp, "--db", "old.db")["schema"] == "good"


def test_a_changed_audit_log_is_bad(osp: Osp, folder: Path) -> None:
    """The record is named, and the exit code is 1."""
    osp("user", "add", "ann")
    assert levels(osp)["audit"] == "good"
    with sqlite3.connect(folder / ".osp" / "runs.db") as connection:
        connection.execute("DROP TRIGGER audit_stays")
        connection.execute("UPDATE audit SET by = 'mallory'")
    connection.close()
    said = osp("doctor")
    assert said.code == 1
    assert "record 1 of the audit log is not as it was written" in said.out


def test_a_newer_schema(osp: Osp, folder: Path) -> None:
    """The advice is to upgrade; every other command refuses with exit code 6."""
    osp("run", "flow.py:echo", "--db", "new.db")
    with sqlite3.connect(folder / "new.db") as new:
        new.execute("PRAGMA user_version = 999")
    new.close()
    said = osp("doctor", "--db", "new.db")
    assert said.code == 1
    assert "upgrade" in said.out
    assert osp("list", "--db", "new.db").code == 6


def test_a_damaged_file(osp: Osp, folder: Path) -> None:
    """quick_check finds it, and the advice is a backup."""
    osp("run", "flow.py:echo", "--db", "bad.db")
    for number in range(60):
        osp("run", "flow.py:echo", f"{number}" * 200, "--db", "bad.db", "--detach")
    osp("backup", "copy.db", "--db", "bad.db")
    data = bytearray((folder / "copy.db").read_bytes())
    for page in range(5, len(data) // 4_096):
        data[page * 4_096 : page * 4_096 + 64] = b"\xff" * 64
    (folder / "copy.db").write_bytes(bytes(data))
    said = osp("doctor", "--db", "copy.db")
    assert said.code == 1
    assert "backup" in said.out
