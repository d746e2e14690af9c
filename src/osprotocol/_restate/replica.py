"""A member's copy of a ledger: an SQLite file of the embedded engine's schema, and how far it has come."""

from __future__ import annotations

import threading
import zlib
from pathlib import Path
from typing import Final

import apsw

from osprotocol._clock import monotonic_s
from osprotocol._embedded.database import (
    SCHEMA_VERSION,
    migrate,
    open_connection,
    prepare_folder,
    translated,
)
from osprotocol._embedded.upstream import PATIENT_MS, ChangeTooLargeError, is_copy
from osprotocol._ids import Ids
from osprotocol._restate.frames import Header, unframe
from osprotocol._restate.ingress import ASKED_AGAIN_S, Ingress
from osprotocol._restate.ledger import GENESIS, chained
from osprotocol._restate.snapshots import restore
from osprotocol.errors import EngineError, LedgerUnreachableError, SchemaTooNewError, StoreError

LARGEST_CHANGE: Final = 16 * 1_048_576
"""Of one compressed change, in bytes; Restate's own limit for a message is 32 MiB by default."""

_MAKE: Final = """
CREATE TABLE IF NOT EXISTS replica (
  key INTEGER PRIMARY KEY CHECK (key = 1),
  source TEXT NOT NULL,
  version INTEGER NOT NULL,
  chain TEXT NOT NULL
) STRICT"""
_BEGIN: Final = "INSERT INTO replica VALUES (1, ?, 0, ?) ON CONFLICT DO NOTHING"
_PLACE: Final = "SELECT version, chain FROM replica"
_MOVE: Final = "UPDATE replica SET version = ?, chain = ?"


class Replica:
    """The copy in one file; `Upstream` of the store of that file. Several processes of a machine may share it.

    Args:
        path: the file; made when it is not there.
        ingress: the ledger.
    """

    def __init__(self, path: Path, ingress: Ingress) -> None:
        self.path = path
        self.head: Header = {"bytes": 0, "size": 0, "snapshot": 0}
        self.reached = 0
        self._ingress = ingress
        self._ids = Ids()
        self._lock = threading.RLock()
        self._received: tuple[int, list[bytes]] = (0, [])
        self._token = ""
        self._has_taken = False
        self._is_unheard = False
        prepare_folder(path)
        self._connection = open_connection(path, "normal")
        self._connection.set_busy_timeout(PATIENT_MS)
        # The rows of a change come in no order; that the audit log only grows was checked where it was written.
        self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        migrate(self._connection, path)
        if not is_copy(self._connection):  # who only looks does not wait for who commits
            with translated(path):
                self._connection.execute(_MAKE)
                self._connection.execute(_BEGIN, (f"restate:{ingress.addresses[0]}/{ingress.namespace}", GENESIS))

    def place(self) -> tuple[int, str]:
        """Number and hash of the newest entry that this copy has."""
        with self._lock, translated(self.path):
            return self._place(self._connection)

    def _place(self, connection: apsw.Connection) -> tuple[int, str]:
        version, chain = connection.execute(_PLACE).fetchall()[0]
        assert isinstance(version, int)
        self.reached = version
        return version, str(chain)

    # --------------------------------------------------------------- publishing

    def publish(self, connection: apsw.Connection, change: bytes, *, is_news: bool) -> bool:
        """See `Upstream.publish`."""
        packed = zlib.compress(change, 1)
        if len(packed) > LARGEST_CHANGE:
            raise ChangeTooLargeError(str(self.path), f"a commit of {len(packed)} bytes is too large for the ledger")
        version, chain = self._place(connection)
        token = self._token = self._ids.secret()
        self._is_unheard, asked_s = True, monotonic_s()
        reply, entries = self._ingress.append(version, chain, token, SCHEMA_VERSION, packed, is_news=is_news)
        self._is_unheard = False
        self._check(reply)
        if reply["status"] == "compacted" and monotonic_s() - asked_s >= ASKED_AGAIN_S:
            # Asked more than once, perhaps, and the first answer lost: reading back decides.
            raise LedgerUnreachableError(str(self.path), "what was appended meanwhile is in a snapshot already")
        if reply["status"] == "behind" and entries and unframe(entries[0])[0]["token"] == token:
            pass  # asked twice, because the first answer was lost
        elif reply["status"] != "accepted":
            self._received = version, entries
            return False
        connection.execute(_MOVE, (version + 1, chained(chain, token, packed)))
        self.reached = version + 1
        return True

    # -------------------------------------------------------------- catching up

    def has_taken(self) -> bool:
        """See `Upstream.has_taken`."""
        return self._has_taken

    def catch_up(self) -> bool:
        """See `Upstream.catch_up`."""
        with self._lock:
            self._has_taken = False
            # Right after an append that nobody answered: it has waited long enough.
            patience_s, self._is_unheard = (0.0 if self._is_unheard else None), False
            before = self.place()
            (base, received), self._received = self._received, (0, [])
            if received and self.apply(base, received):
                return True  # what is newer than this the next append tells
            while True:
                version, chain = self.place()
                reply, entries = self._ingress.read(version, chain, patience_s=patience_s)
                if not self.take(reply, version, entries):
                    return self.place() != before

    def take(self, reply: Header, base: int, entries: list[bytes]) -> bool:
        """Apply what a read brought; whether there may be more."""
        self._check(reply)
        # An empty copy has all of it to come, and entries take several times as long.
        if reply["status"] == "compacted" or (base == 0 and reply["head"]["snapshot"]):
            self._start_from_snapshot(reply["head"])
            return True
        if not entries:
            return False
        self.apply(base, entries)
        return bool(reply["head"]["version"] > base + len(entries))

    def _check(self, reply: Header) -> None:
        self.head = reply["head"]
        if reply["status"] in ("diverged", "ahead"):
            raise EngineError(
                str(self.path), "does not belong to this ledger, which was reset or restored; save what it holds with "
                f"'osp --db {self.path} backup FILE', then remove it: it is made anew"
            )  # fmt: skip
        if reply["status"] == "protocol":
            raise EngineError(str(self.path), "the ledger was written by a newer osprotocol; upgrade this one")

    def apply(self, base: int, entries: list[bytes]) -> bool:
        """Write entries that follow one into the file; those that it has already are left out. Whether any was new.

        Raises:
            StoreError: they do not follow what the file holds.
        """
        with self._lock, translated(self.path):
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                version, chain = self._place(connection)
                if version < base:
                    raise StoreError(str(self.path), f"is at entry {version}, and what came follows {base}")
                fresh = entries[version - base :]
                for entry in fresh:
                    told, (change,) = unframe(entry)
                    if told["schema"] > SCHEMA_VERSION:
                        raise SchemaTooNewError(str(self.path), told["schema"], SCHEMA_VERSION)
                    chain = chained(chain, told["token"], change)
                    if chain != told["chain"]:
                        raise StoreError(str(self.path), f"entry {version + 1} does not follow what is here")
                    apsw.Changeset.apply(zlib.decompress(change), connection)
                    self._has_taken |= told["token"] == self._token
                    version += 1
                if fresh:
                    connection.execute(_MOVE, (version, chain))
                connection.execute("COMMIT")
                self.reached = version
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        return bool(fresh)

    def _start_from_snapshot(self, head: Header) -> None:
        with self._lock, translated(self.path):
            if self.place()[0] < head["snapshot"]:
                restore(self._ingress, head, self._connection, self.path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
