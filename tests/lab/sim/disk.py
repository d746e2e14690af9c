"""The one file of the simulated worlds of this process: wiped between worlds, its connections are kept.

What a connection costs most is to prepare its statements, and worlds follow each other by the thousand. A connection
that is closed is rolled back and kept for the next who opens one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import apsw

from osprotocol._clock import SystemClock
from osprotocol._embedded import database
from osprotocol._embedded.store import Store

_VFS = "unix-excl"
"""To the operating system all processes of a world are one, so SQLite need not ask it for locks."""
_PATCHED = "osprotocol._embedded.store"


class _Kept(apsw.Connection):
    """A connection that its user closes and the disk keeps."""

    kept_in: list[_Kept]

    def close(self, force: bool = False) -> None:
        if self not in self.kept_in:
            if self.in_transaction:
                self.execute("ROLLBACK")
            self.set_commit_hook(None)
            self.wal_autocheckpoint(1_000)  # which also takes a hook back that was set on the log
            self.set_busy_timeout(database.BUSY_MS)
            self.kept_in.append(self)


class Disk:
    """A database file and connections to it."""

    def __init__(self) -> None:
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="osp-sim-", dir=place))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.path = self.folder / "runs.db"
        self._pid = os.getpid()
        Store(self.path, SystemClock(), "off").close()
        self._writers: list[_Kept] = []
        self._readers: list[_Kept] = []
        self._patches = ExitStack()
        self._cleaner = self._new(self._writers)
        self._cleaner.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)  # they keep the audit log from being emptied
        tables = self._cleaner.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        self._wipe = "BEGIN IMMEDIATE;" + ";".join(f"DELETE FROM {name}" for (name,) in tables) + "; COMMIT"

    def mount(self) -> None:
        """From now on stores open their connections here."""
        self._patches.enter_context(mock.patch(f"{_PATCHED}.open_connection", self._open_connection))
        self._patches.enter_context(mock.patch(f"{_PATCHED}.open_reader", self.open_reader))
        self._patches.enter_context(mock.patch(f"{_PATCHED}.check_filesystem"))

    def unmount(self) -> None:
        """The world is over: empty the file for the next."""
        self._patches.close()
        self._cleaner.execute(self._wipe)
        shutil.rmtree(f"{os.path.realpath(self.path)}-workers", ignore_errors=True)

    @property
    def is_ours(self) -> bool:
        """Whether this process made it: connections do not outlive a fork."""
        return self._pid == os.getpid()

    def _new(self, kept_in: list[_Kept]) -> _Kept:
        connection = _Kept(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=_VFS)
        connection.kept_in = kept_in
        connection.set_busy_timeout(database.BUSY_MS)
        connection.execute("PRAGMA synchronous = OFF; PRAGMA trusted_schema = 0; PRAGMA cache_size = -4000")
        return connection

    def _open_connection(self, path: Path, durability: str, *, vfs: str | None = None) -> apsw.Connection:
        return self._writers.pop() if self._writers else self._new(self._writers)

    def open_reader(self, path: Path | None = None, *, vfs: str | None = None) -> apsw.Connection:
        """A connection that cannot write."""
        if self._readers:
            return self._readers.pop()
        connection = self._new(self._readers)
        connection.execute("PRAGMA query_only = 1")
        return connection


_disks: list[Disk] = []


def the_disk() -> Disk:
    """The disk of this process."""
    if not _disks or not _disks[0].is_ours:
        _disks[:] = [Disk()]
    return _disks[0]
