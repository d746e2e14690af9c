"""Errors of the ground under us: engine, database, machine, server."""

from __future__ import annotations

from osprotocol.errors.root import OSProtocolError


class EngineError(OSProtocolError):
    """The engine or what it stands on; nothing about one run."""

    code = "engine"
    http_status = 503

    def __init__(self, where: str = "", detail: str = "") -> None:
        super().__init__(where, detail)
        self.where, self.detail = where, detail

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


class EngineClosedError(EngineError):
    """The client was closed."""

    code = "engine-closed"

    def __str__(self) -> str:
        return "this client is closed; its runs are parked and go on when a worker connects"


class WorkerNotFoundError(EngineError):
    """No living worker has that id."""

    code = "worker-not-found"
    http_status = 404

    def __str__(self) -> str:
        return f"worker {self.where!r} is not alive here; 'osp workers' lists those that are"


class ForkedProcessError(EngineError):
    """The client was inherited by a forked process, where it must not be used."""

    code = "forked-process"

    def __str__(self) -> str:
        return "this process was forked from the one that connected; call connect() again in the child process"


class UnreachableError(EngineError):
    """The server does not answer. Whether it did what it was asked last is not known."""

    code = "unreachable"
    retryable = True

    def __str__(self) -> str:
        return f"{self.where}: cannot be reached ({self.detail}); is 'osp serve' running there?"


class UnsupportedPlatformError(EngineError):
    """The embedded engine runs on Linux and macOS."""

    code = "unsupported-platform"

    def __str__(self) -> str:
        return f"the embedded engine runs on Linux and macOS, not on {self.where}; connect to a server with http://..."


class UnsupportedFilesystemError(EngineError):
    """SQLite's locks cannot be trusted on the file system that holds the database."""

    code = "unsupported-filesystem"

    def __str__(self) -> str:
        return f"{self.where}: locks of a {self.detail} file system cannot be trusted; put the database on a local disk"


class StoreError(EngineError):
    """The database could not do it. The outcome of a commit that failed is read back, never guessed."""

    code = "store"
    retryable = True


class LedgerUnreachableError(StoreError):
    """Restate, or who serves the ledger to it, does not answer. Whether the last change was accepted is not known."""

    code = "ledger-unreachable"
    retryable = True

    def __str__(self) -> str:
        return f"{self.where}: the ledger does not answer ({self.detail})"


class StorageFullError(StoreError):
    """No space is left; nothing that was acknowledged is lost and work goes on once there is space."""

    code = "storage-full"

    def __str__(self) -> str:
        return f"{self.where}: no space is left on the disk; free some, the runs then go on by themselves"


class ReadOnlyError(StoreError):
    """The database or its folder cannot be written."""

    code = "read-only"
    retryable = False

    def __str__(self) -> str:
        return f"{self.where}: cannot be written ({self.detail}); check the owner and mode of the file and its folder"


class CorruptDatabaseError(StoreError):
    """The file is not a database, or is damaged."""

    code = "corrupt-database"
    retryable = False

    def __str__(self) -> str:
        return f"{self.where}: no usable osprotocol database ({self.detail}); restore a backup made by 'osp backup'"


class SchemaTooNewError(EngineError):
    """The database was written by a newer version of osprotocol."""

    code = "schema-too-new"

    def __init__(self, where: str, found: int, known: int) -> None:
        EngineError.__init__(self, where, f"{found} > {known}")
        self.args = (where, found, known)
        self.found, self.known = found, known

    def __str__(self) -> str:
        known = f"this osprotocol knows versions up to {self.known}"
        return f"{self.where}: has schema version {self.found}, {known}; upgrade osprotocol"
