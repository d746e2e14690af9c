"""Opening the database file: location, checks, settings, schema, and the translation of SQLite's errors."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw

from osprotocol._embedded.queries import read_sql
from osprotocol.errors import (
    CorruptDatabaseError,
    EngineError,
    OSProtocolError,
    ReadOnlyError,
    SchemaTooNewError,
    StorageFullError,
    StoreError,
    UnsupportedFilesystemError,
    UnsupportedPlatformError,
)

SCHEMA_VERSION = 2
MIGRATIONS = {2: read_sql("books.sql")}
"""SQL that takes a database from the version before to the version that is the key."""

_APPLICATION_ID = 0x4F535052
_LEAST_SQLITE = (3, 51, 3)
BUSY_MS = 10_000
"""How long another process that writes is waited for."""
IMPATIENT_MS = 10
"""The same on the event loop, where everybody else would wait too."""
_LEAST_FREE_BYTES = 65_536
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "afpfs", "webdav", "ceph", "glusterfs", "lustre")
_DURABILITIES = {"full": "FULL", "normal": "NORMAL", "off": "OFF"}


def find_database(start: Path) -> Path:
    """The nearest ``.osp/runs.db`` upward from a folder, else where a new one goes."""
    for folder in (start, *start.parents):
        if (folder / ".osp" / "runs.db").exists():
            return folder / ".osp" / "runs.db"
    return start / ".osp" / "runs.db"


@contextlib.contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """SQLite's errors inside as errors of ours."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error
    except UnicodeDecodeError as error:
        raise CorruptDatabaseError(str(path), f"a text in it is none: {error}") from error


def translate(error: apsw.Error, path: Path | str) -> StoreError:
    """The error of ours that an error of SQLite is."""
    detail = str(error)
    if isinstance(error, apsw.FullError) or (isinstance(error, apsw.IOError) and _is_full(Path(path))):
        return StorageFullError(str(path), detail)
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError | apsw.AuthError):
        return ReadOnlyError(str(path), detail)
    if isinstance(error, apsw.CantOpenError):
        return ReadOnlyError(str(path), "it cannot be opened")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return CorruptDatabaseError(str(path), detail)
    return StoreError(str(path), detail)


def failure_of(error: Exception, path: Path) -> OSProtocolError:
    """The error of ours that a commit fails with."""
    if isinstance(error, apsw.Error):
        return translate(error, path)
    if isinstance(error, OSProtocolError):
        return error
    return StoreError(str(path), f"{type(error).__name__}: {error}")


def _is_full(path: Path) -> bool:
    """Whether the disk has no room: SQLite tells it as an I/O error where its shared memory does not fit."""
    try:
        return shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES
    except OSError:
        return False


def check_platform() -> None:
    """Refuse where the locks that ownership stands on do not exist."""
    if sys.platform not in ("linux", "darwin"):
        raise UnsupportedPlatformError(sys.platform)
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < _LEAST_SQLITE:
        needed = ".".join(map(str, _LEAST_SQLITE))
        raise EngineError(
            f"SQLite {apsw.sqlite_lib_version()}",
            f"can lose commits of several processes; apsw with SQLite {needed}+ is needed",
        )


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file a path leads to; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def filesystem_of(path: Path) -> str | None:
    """The type of the file system that holds a path, as the operating system names it; None if it does not say."""
    real = os.path.realpath(path)
    best, kind = "", None
    if sys.platform == "linux":
        try:
            lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        mounts = [(line.split()[4], line.partition(" - ")[2].split()[0]) for line in lines if " - " in line]
    else:
        listed = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False, timeout=5).stdout
        mounts = [
            (line.split(" on ", 1)[1].split(" (", 1)[0], line.split(" (", 1)[1].split(",", 1)[0])
            for line in listed.splitlines()
            if " on " in line and " (" in line
        ]
    for mount, mount_kind in mounts:
        prefix = mount.replace("\\040", " ").rstrip("/") + "/"
        if (real + "/").startswith(prefix) and len(prefix) >= len(best):
            best, kind = prefix, mount_kind
    return kind


def check_filesystem(path: Path) -> None:
    """Refuse network and user-space file systems unless ``OSP_UNSAFE_FILESYSTEM=1`` is set."""
    kind = filesystem_of(path) or ""
    if (kind in _REMOTE or kind.startswith("fuse.")) and os.environ.get("OSP_UNSAFE_FILESYSTEM") != "1":
        raise UnsupportedFilesystemError(str(path), kind)


def prepare_folder(path: Path) -> None:
    """Make the folder (0700) and the file (0600) if they are not there; other people's folders keep their mode."""
    try:
        made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        if made:
            path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)  # another process may be as quick
            if path.parent.name == ".osp":
                path.parent.chmod(0o700)
                (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        for folder in made:
            sync_folder(folder.parent)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # its name lasts with SQLite's first sync
    except (PermissionError, FileNotFoundError, NotADirectoryError, FileExistsError, OSError) as error:
        raise ReadOnlyError(str(path), error.strerror or str(error)) from None


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last: what is in a file outlives a power cut, its name does only with this."""
    with contextlib.suppress(OSError):  # some file systems cannot; SQLite takes it like that as well
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def closed_on_error(connection: apsw.Connection) -> Iterator[None]:
    """Leave no connection behind, with its locks, for as long as somebody holds the error."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(apsw.Error):
            connection.close()
        raise


def open_connection(path: Path, durability: str, *, vfs: str | None = None) -> apsw.Connection:
    """A connection for writing, with the settings that the promises stand on."""
    with translated(path):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
        with closed_on_error(connection):
            connection.set_busy_timeout(BUSY_MS)
            if connection.readonly("main"):
                # SQLite falls back to reading without a word; the first run would find out.
                raise ReadOnlyError(str(path), "the file is read-only")
            mode = connection.execute("PRAGMA journal_mode = WAL").get
            if mode != "wal":
                raise EngineError(str(path), f"cannot use a write-ahead log here (journal mode is {mode})")
            set_durability(connection, durability)
            connection.execute("PRAGMA fullfsync = 1; PRAGMA checkpoint_fullfsync = 1; PRAGMA trusted_schema = 0")
            connection.execute("PRAGMA cache_size = -4000; PRAGMA temp_store = MEMORY")
            return connection


def open_reader(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """A connection that cannot write."""
    with translated(path):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
        with closed_on_error(connection):
            connection.set_busy_timeout(BUSY_MS)
            connection.execute("PRAGMA query_only = 1; PRAGMA trusted_schema = 0")
        return connection


def set_durability(connection: apsw.Connection, durability: str) -> None:
    """What a commit waits for: ``full`` for the disk, ``normal`` for the operating system, ``off`` for nothing."""
    if durability not in _DURABILITIES:
        raise EngineError("durability", f"{durability!r} is none of {', '.join(_DURABILITIES)}")
    connection.execute(f"PRAGMA synchronous = {_DURABILITIES[durability]}")


def migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the schema to `SCHEMA_VERSION`, in one transaction that one process wins.

    Raises:
        SchemaTooNewError: a newer osprotocol wrote the file.
        CorruptDatabaseError: the file is some other program's database.
    """
    with translated(path):
        if _version(connection) == SCHEMA_VERSION and _application(connection) == _APPLICATION_ID:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _version(connection)
            if version > SCHEMA_VERSION:
                raise SchemaTooNewError(str(path), version, SCHEMA_VERSION)
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
            if _application(connection) != _APPLICATION_ID and tables:
                raise CorruptDatabaseError(str(path), "it is another program's database")
            if version == 0:
                connection.execute(read_sql("schema.sql"))  # version 1; the migrations below bring it up to date
            for number in range(max(version, 1) + 1, SCHEMA_VERSION + 1):
                connection.execute(MIGRATIONS[number])
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _version(connection: apsw.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").get)


def _application(connection: apsw.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").get)
