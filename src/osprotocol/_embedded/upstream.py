"""The seam under the store for a file that is a copy: every commit is accepted elsewhere first."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import apsw

from osprotocol._embedded.database import open_connection, translated
from osprotocol.errors import StoreError

MARK = "replica"
"""The table that a copy has beside the schema: where it was copied from and how far. No change contains it."""
PATIENT_MS = 45_000
"""How long another process with the same copy is waited for: it writes for as long as it waits for its answer."""


class ChangeTooLargeError(StoreError):
    """One change is larger than what is accepted at once. Nothing was sent."""

    retryable = False


class Upstream(Protocol):
    """Where the changes of a file go before they are committed to it.

    Called by the thread that commits, with the store's lock held. What others changed is written into the file by a
    connection of the upstream's own, so that the store sees it as it sees another process's commits.
    """

    def publish(self, connection: apsw.Connection, change: bytes, *, is_news: bool) -> bool:
        """Have a change accepted, inside the transaction that made it; False if something else was accepted before.

        Args:
            connection: has the open transaction, in which the copy's new place is noted.
            is_news: whether others may have to act on it; what a worker notes of a run that it executes they may learn
                a little later.
            change: an SQLite patchset.

        Raises:
            ChangeTooLargeError: it has to be made in parts.
            StoreError: whether it was accepted is not known.
        """

    def catch_up(self) -> bool:
        """Write what was accepted elsewhere into the file, outside of any transaction; whether there was something.

        Raises:
            StoreError: it is not known what was.
        """

    def has_taken(self) -> bool:
        """Whether the change published last was among what the last `catch_up` brought."""


def recorder_of(connection: apsw.Connection) -> apsw.Session:
    """Records what the open transaction does to every table but the mark."""
    recorder = apsw.Session(connection, "main")
    recorder.table_filter(lambda table: table != MARK)
    recorder.attach(None)
    return recorder


def is_copy(connection: apsw.Connection) -> bool:
    """Whether a database is the copy of something."""
    return bool(connection.table_exists("main", MARK) and connection.execute("SELECT count(*) FROM replica").get)


def make_independent(path: Path) -> None:
    """Make a database of a copy, which then belongs to nothing any more."""
    with translated(path):
        connection = open_connection(path, "full")
        try:
            connection.execute("DROP TABLE IF EXISTS replica")
        finally:
            connection.close()
