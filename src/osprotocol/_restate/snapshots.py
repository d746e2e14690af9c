"""Snapshots of the ledger: what a new member starts from, so that old entries can be forgotten."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw

from osprotocol._embedded.database import SCHEMA_VERSION, migrate, translated
from osprotocol._restate.frames import Header
from osprotocol._restate.ingress import Ingress
from osprotocol.errors import CorruptDatabaseError, SchemaTooNewError

LEAST_BYTES: Final = 8 * 1_048_576
"""A snapshot is made once the entries since the last one are as large as it, and at least so large: all snapshots
together cost no more than the entries themselves, and a new member never fetches more than twice what there is."""
KEPT: Final = 1_000
"""At most so many entries stay although a snapshot holds them: a member that is a little behind needs no snapshot."""
_PART_BYTES: Final = 1_048_576
_PAGES_AT_ONCE: Final = 4_096


def is_due(head: Header) -> bool:
    """Whether the ledger has grown so much that a snapshot is worth its while."""
    return bool(head["bytes"] >= max(LEAST_BYTES, head["size"]))


def make(ingress: Ingress, path: Path, head: Header, maker: str) -> int:
    """Store the content of a copy as a snapshot and forget what it replaces; gives the entry that it stands at."""
    with _beside(path) as file:
        source = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            source.execute("VACUUM INTO ?", (str(file),))
        finally:
            source.close()
        copy = apsw.Connection(str(file))
        version = int(copy.execute("SELECT version FROM replica").get)
        copy.close()
        name, number, size = f"{version}-{maker}", 0, 0
        packer = zlib.compressobj(6)
        with file.open("rb") as whole:
            pending = b""
            while block := whole.read(_PART_BYTES):
                packed = packer.compress(block)
                pending, size = pending + packed, size + len(packed)
                while len(pending) >= _PART_BYTES:
                    ingress.put_part(name, number, pending[:_PART_BYTES])
                    pending, number = pending[_PART_BYTES:], number + 1
        ingress.put_part(name, number, pending + packer.flush())
    until = max(version - KEPT, head["snapshot"])
    told = {"snapshot": version, "name": name, "count": number + 1, "size": size, "until": until}
    stale = ingress.compact(told)
    if stale:
        ingress.drop_snapshot(stale)
    return version


def restore(ingress: Ingress, head: Header, connection: apsw.Connection, path: Path) -> bool:
    """Replace the content of a copy by the newest snapshot, at once for everybody who has the file open.

    False if that snapshot was replaced by a newer one while it was fetched: ask for the head again.

    Raises:
        SchemaTooNewError: a newer osprotocol made it.
        CorruptDatabaseError: it is damaged.
    """
    try:
        with translated(path):
            return _restore(ingress, head, connection, path)
    except zlib.error as error:
        raise CorruptDatabaseError(str(path), f"the snapshot of the ledger is damaged: {error}") from error


def _restore(ingress: Ingress, head: Header, connection: apsw.Connection, path: Path) -> bool:
    with _beside(path) as file:
        unpacker = zlib.decompressobj()
        with file.open("wb") as whole:
            for number in range(head["count"]):
                part = ingress.get_part(head["name"], number)
                if not part:
                    return False
                whole.write(unpacker.decompress(part))
            whole.write(unpacker.flush())
        if not unpacker.eof:  # only there the checksum is looked at
            raise CorruptDatabaseError(str(path), "the snapshot of the ledger is cut off")
        source = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            schema = int(source.execute("PRAGMA user_version").get)
            if schema > SCHEMA_VERSION:
                raise SchemaTooNewError(str(path), schema, SCHEMA_VERSION)
            with connection.backup("main", source, "main") as copying:
                while not copying.done:
                    copying.step(_PAGES_AT_ONCE)
        finally:
            source.close()
    migrate(connection, path)  # an older osprotocol may have made it
    return True


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """The name of an empty temporary file in the folder of another, which is gone afterwards."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}-snapshot-")
    os.close(descriptor)  # it stays, empty and for our eyes only: what SQLite makes anew the umask decides on
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
