"""Snapshots of a copy: who may read the files, and which ones are taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import apsw
import pytest

from osprotocol._embedded.database import SCHEMA_VERSION, migrate, open_connection, prepare_folder
from osprotocol._restate import snapshots
from osprotocol._restate.frames import Header
from osprotocol._restate.ingress import Ingress
from osprotocol.errors import SchemaTooNewError


class Parts:
    """Where snapshots are put, and what is seen in the folder of the copy while that happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[tuple[str, int], bytes] = {}
        self.head: Header = {}
        self.modes: set[int] = set()

    def put_part(self, snapshot: str, number: int, part: bytes) -> None:
        self._look()
        self.parts[snapshot, number] = part

    def get_part(self, snapshot: str, number: int) -> bytes:
        self._look()
        return self.parts[snapshot, number]

    def compact(self, told: Header) -> str:
        self.head = told
        return ""

    def drop_snapshot(self, snapshot: str) -> None:
        """Nobody asks for it any more."""

    def _look(self) -> None:
        self.modes |= {file.stat().st_mode & 0o777 for file in self.folder.glob("*-snapshot-*")}

    @property
    def ingress(self) -> Ingress:
        return cast(Ingress, self)


@pytest.fixture
def open_umask() -> Iterator[None]:
    """New files can be read by everybody unless their maker says otherwise."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def copy_in(folder: Path, name: str, schema: int = SCHEMA_VERSION) -> tuple[Path, apsw.Connection]:
    path = folder / f"{name}.db"
    prepare_folder(path)
    connection = open_connection(path, "off")
    migrate(connection, path)
    connection.execute("CREATE TABLE replica (version INTEGER); INSERT INTO replica VALUES (7)")
    connection.execute(f"PRAGMA user_version = {schema}")
    return path, connection


def test_files_of_a_snapshot_are_for_their_owner_only(tmp_path: Path, open_umask: None) -> None:
    """As the copy is, which they hold all of; nothing is left of them."""
    parts = Parts(tmp_path)
    path, source = copy_in(tmp_path, "source")
    _, target = copy_in(tmp_path, "target")
    assert snapshots.make(parts.ingress, path, {"snapshot": 0}, "maker") == 7
    assert snapshots.restore(parts.ingress, parts.head, target, path)
    assert parts.modes == {0o600}
    assert not list(tmp_path.glob("*-snapshot-*"))
    source.close()
    target.close()


def test_a_snapshot_of_a_newer_osprotocol_is_refused(tmp_path: Path) -> None:
    """The copy stays as it is, and says which version is needed."""
    parts = Parts(tmp_path)
    path, source = copy_in(tmp_path, "source", SCHEMA_VERSION + 1)
    _, target = copy_in(tmp_path, "target")
    target.execute("UPDATE replica SET version = 3")
    snapshots.make(parts.ingress, path, {"snapshot": 0}, "maker")
    with pytest.raises(SchemaTooNewError):
        snapshots.restore(parts.ingress, parts.head, target, path)
    assert target.execute("SELECT version FROM replica").get == 3
    assert target.execute("PRAGMA user_version").get == SCHEMA_VERSION
    source.close()
    target.close()
