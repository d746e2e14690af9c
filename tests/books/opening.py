"""Books for tests, people who act, commits that fail, and a log that somebody tampers with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import apsw

from osprotocol._clock import Clock, to_datetime
from osprotocol._embedded.books import Books
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol.client import Client
from osprotocol.engine import Acting, acting
from osprotocol.testing import VirtualClock

DAY = timedelta(days=1)


@asynccontextmanager
async def opened(path: Path, clock: Clock | None = None) -> AsyncIterator[Books]:
    """Books in a file, with a clock that stands still."""
    books = await Books.open_file(path / "books.db", clock=clock or VirtualClock())
    try:
        yield books
    finally:
        await books.close()


def ahead(books: Books, by: timedelta = DAY) -> datetime:
    """An instant after now."""
    return to_datetime(books._engine.clock.now()) + by


def engine_of(client: Client) -> EmbeddedEngine:
    """The embedded engine under a client."""
    engine = client._engine
    assert isinstance(engine, EmbeddedEngine)
    return engine


@contextmanager
def signed_in(person: str = "ann", via: str = "session", key: str | None = None) -> Iterator[None]:
    """As a server does what a person asks for."""
    before = acting.set(Acting(person, via, key, "digest"))
    try:
        yield
    finally:
        acting.reset(before)


def refuse_next_commit(engine: EmbeddedEngine) -> None:
    """SQLite rolls the next commit back and reports an error, once."""
    connection = engine.store._connected()

    def refuse() -> bool:
        connection.set_commit_hook(None)
        return True

    connection.set_commit_hook(refuse)


def hide_next_commit(engine: EmbeddedEngine) -> None:
    """The next commit happens, and SQLite reports an error all the same."""
    connection = engine.store._connected()

    def deny(_connection: apsw.Connection, _name: str, _pages: int) -> int:
        connection.set_wal_hook(None)
        return apsw.SQLITE_IOERR

    connection.set_wal_hook(deny)


@contextmanager
def tampering(path: Path) -> Iterator[apsw.Connection]:
    """Somebody who can write the file, and removes the triggers first."""
    connection = apsw.Connection(str(path))
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    yield connection
    for _, sql in triggers:
        connection.execute(str(sql))
    connection.close()
