"""Examining a database file from outside, also one that cannot be opened for work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import apsw

from osprotocol._embedded.audit import first_break
from osprotocol._embedded.database import SCHEMA_VERSION, check_filesystem, check_platform, filesystem_of
from osprotocol._embedded.queries import QUERIES
from osprotocol.errors import EngineError

Level = Literal["good", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        check: what was looked at.
        level: ``good``, ``note`` (worth knowing) or ``bad`` (something is wrong).
        message: one line about it.
    """

    check: str
    level: Level
    message: str


def examine(path: Path) -> Iterator[Finding]:
    """Check platform, location, file system, schema and integrity of a database. Changes nothing."""
    yield _attempt("sqlite", f"SQLite {apsw.sqlite_lib_version()}, apsw {apsw.apsw_version()}", check_platform)
    if not path.exists():
        yield Finding("location", "note", f"{path}: there is no database yet; 'osp run' makes one")
        return
    size = path.stat().st_size
    yield Finding("location", "good", f"{path}, {size} bytes")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        yield Finding("access", "note", f"the file's mode is {mode:04o}: other people of this machine may open it")
    else:
        yield Finding("access", "good", f"mode {mode:04o}, only its owner may open it")
    kind = filesystem_of(path) or "of unknown type"
    yield _attempt("filesystem", f"file system {kind}", lambda: check_filesystem(path))
    yield from _inside(path)


def _attempt(check: str, message: str, run: object) -> Finding:
    assert callable(run), "a check is a function"
    try:
        run()
    except EngineError as error:
        return Finding(check, "bad", str(error))
    return Finding(check, "good", message)


def _inside(path: Path) -> Iterator[Finding]:
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error as error:
        yield Finding("schema", "bad", f"it cannot be opened: {error}")
        return
    try:
        connection.set_busy_timeout(2_000)
        connection.execute("PRAGMA query_only = 1")
        version = int(connection.execute("PRAGMA user_version").get)
        tables = int(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name IN ('runs', 'journal')").get)
        if tables < 2:
            yield Finding("schema", "bad", "this is no database of osprotocol")
        elif version > SCHEMA_VERSION:
            yield Finding(
                "schema", "bad", f"schema version {version}, this osprotocol knows up to {SCHEMA_VERSION}: upgrade"
            )
        elif version < SCHEMA_VERSION:
            yield Finding("schema", "note", f"schema version {version}; the next start brings it to {SCHEMA_VERSION}")
        else:
            yield Finding("schema", "good", f"schema version {version}")
        problems = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
        if problems == ["ok"]:
            yield Finding("integrity", "good", "quick_check found nothing wrong")
            if version == SCHEMA_VERSION:
                yield _chain(connection)
        else:
            yield Finding("integrity", "bad", f"{'; '.join(problems)}; restore a backup made by 'osp backup'")
    except apsw.Error as error:
        yield Finding("integrity", "bad", f"it cannot be read: {error}; restore a backup made by 'osp backup'")
    finally:
        with contextlib.suppress(apsw.Error):  # nothing was written
            connection.close()


def _chain(connection: apsw.Connection) -> Finding:
    connection.execute("BEGIN")
    newest = connection.execute(QUERIES["newest_audit"], (1,)).fetchone()
    broken = first_break(connection.execute(QUERIES["whole_audit"]))
    connection.execute("COMMIT")
    if broken is not None:
        return Finding("audit", "bad", f"record {broken} of the audit log is not as it was written")
    return Finding("audit", "good", f"{newest[0] if newest else 0} records, all as they were written")
